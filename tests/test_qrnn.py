"QRNN: kernels that agree, parity with fastai 1.0.61, the laws on padding and purity, and an encoder that works wherever the LSTM's does"
import importlib.util, os, subprocess, sys, threading, warnings

import pytest, torch, torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import nn

import textnb.models.kernels as K
from test_learner import clas_data, lm_data, v1_files
from test_models import docs_of, golden, loaded
from textnb.all import *
from textnb.learn import encoder_of
from textnb.models import *

SMALL = dict(emb_sz=6, n_hid=8, n_layers=2, qrnn=True)
TOY = dict(emb_sz=24, n_hid=32, n_layers=2, qrnn=True)


def gates(bs, sl, n, dtype=torch.float32, scale=2., seed=0):
    "Gates as slices of one product, and a first memory"
    gen = torch.Generator().manual_seed(seed)
    z, f, _ = (torch.randn(bs, sl, 3*n, generator=gen)*scale).to(dtype).chunk(3, 2)
    return z.tanh(), f.sigmoid(), torch.randn(bs, n, generator=gen).to(dtype)


def by(kernel): return lambda *a: K._ForgetMult.apply(*a, kernel)
def leaves(args): return [o.detach().clone().requires_grad_() for o in args]


# ---- the recurrence

@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.one_of(st.integers(1, 100), st.integers(250, 300)), st.integers(1, 9), st.sampled_from([.5, 2., 30.]), st.sampled_from(['steps', 'blocks', None]))
def test_kernels_agree(bs, sl, n, scale, kernel):
    "Check 21: each kernel gives the loop's numbers and gradients to 1e-5 in float32, for gates from nearly 0 to nearly 1, and 0 and 1 themselves"
    z, f, c = gates(bs, sl, n, scale=scale, seed=sl)
    f = torch.where(f<.01, 0., torch.where(f>.99, 1., f))
    fn, args, ref = by(kernel) if kernel else forget_mult, leaves((z, f, c)), leaves((z, f, c))
    a, b = fn(*args), forget_mult_loop(*ref)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    w = torch.randn(b.shape, generator=torch.Generator().manual_seed(1))
    for i, j in zip(torch.autograd.grad((a*w).sum(), args), torch.autograd.grad((b*w).sum(), ref)): torch.testing.assert_close(i, j, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('kernel', ['steps', 'blocks'])
@pytest.mark.parametrize('sl', [1, 2, 35])
def test_gradcheck(kernel, sl):
    "Check 21: the backward passes against finite differences, in float64"
    assert torch.autograd.gradcheck(by(kernel), leaves(gates(2, sl, 3, torch.float64)))


@pytest.mark.parametrize('scale', [1e-3, 1., 1e4])
def test_long_memory(scale):
    "10,000 steps, gates that saturate: the memory never leaves the range of what it was given, and both kernels agree with the loop"
    z, f, c = gates(1, 10000, 4, scale=scale)
    want, bound = forget_mult_loop(z, f, c), max(z.abs().max(), c.abs().max())
    for k in ('steps', 'blocks'):
        got = by(k)(z, f, c)
        assert got.isfinite().all() and got.abs().max()<=bound+1e-6
        torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
    keep = forget_mult(z, torch.zeros_like(f), c)
    assert torch.equal(keep, c[:, None].expand_as(keep)) and torch.equal(forget_mult(z, torch.ones_like(f), c), z)


def test_kernels_leave_their_input():
    "No kernel writes into what it was given"
    args = gates(1, 300, 5)
    before = [o.clone() for o in args]
    for k in ('steps', 'blocks'):
        a = leaves(args)
        by(k)(*a).sum().backward()
        assert all(torch.equal(x, y) for x, y in zip(a, before))
    assert all(torch.equal(x, y) for x, y in zip(args, before))


TRITON = """
import torch, textnb.models.kernels as K
for dtype, eps in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
    for bs, sl, n in ((3, 17, 200), (1, 1, 5), (2, 40, 128)):
        y = torch.randn(bs, sl, 3*n, dtype=dtype)
        z, f, _ = y.chunk(3, 2)
        args = [o.detach().requires_grad_() for o in (z, f.sigmoid(), torch.randn(bs, n, dtype=dtype))]
        a, b = K._ForgetMult.apply(*args, 'triton'), K.forget_mult_loop(*args)
        g = torch.randn_like(b)
        torch.testing.assert_close(a, b, atol=eps, rtol=0)
        for i, j in zip(torch.autograd.grad(a, args, g), torch.autograd.grad(b, args, g)): torch.testing.assert_close(i, j, atol=eps, rtol=eps)
print('agree')
"""


@pytest.mark.skipif(importlib.util.find_spec('triton') is None, reason='Triton is not installed')
def test_triton_interpreted():
    "Check 21: the Triton kernels, run by its interpreter on CPU tensors, agree with the loop, gradients included"
    res = subprocess.run([sys.executable, '-c', TRITON], capture_output=True, text=True, env={**os.environ, 'TRITON_INTERPRET': '1'})
    if 'interpreter.py' in res.stderr and 'only 0-dimensional arrays' in res.stderr: pytest.skip("this Triton's interpreter cannot count with this NumPy")
    assert res.stdout.strip()=='agree', res.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_gpu():
    "Check 21: on a GPU the same numbers and gradients as on the CPU, to 1e-4"
    args, on_gpu = leaves(gates(3, 50, 200)), leaves([o.cuda() for o in gates(3, 50, 200)])
    a, b = forget_mult(*args), forget_mult(*on_gpu)
    torch.testing.assert_close(a, b.cpu(), atol=1e-4, rtol=0)
    for i, j in zip(torch.autograd.grad((a**2).sum(), args), torch.autograd.grad((b**2).sum(), on_gpu)): torch.testing.assert_close(i, j.cpu(), atol=1e-4, rtol=1e-4)


def test_triton_is_lazy():
    "Importing textnb imports no Triton; a kernel's name follows the device and the sizes"
    code = "import sys, textnb.models; assert not any(m.split('.')[0]=='triton' for m in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code]).returncode==0
    assert [K._kernel(torch.empty(s)) for s in ((64, 70, 256), (1, 256, 64), (1, 255, 64), (1, 256, 2000))]==['steps', 'blocks', 'steps', 'steps']


# ---- layers

@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 3), st.sampled_from([None, 1, 2]), st.booleans(), st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_chunks_are_the_whole(bs, sl, n_layers, window, gate, cuts):
    "Check 21: reading in pieces of any size with the state handed over equals reading at once, for any stack"
    torch.manual_seed(sl)
    rnn = QRNN(3, 4, n_layers, save_prev_x=True, window=window, output_gate=gate).double().requires_grad_(False)
    x, state, outs, i = torch.randn(bs, sl, 3).double(), None, [], 0
    whole, last = rnn(x)
    while i<sl:
        n = cuts[len(outs)%len(cuts)]
        out, state = rnn(x[:, i:i+n], state)
        outs.append(out)
        i += n
    torch.testing.assert_close(torch.cat(outs, 1), whole)
    for a, b in zip(state, last): torch.testing.assert_close(a, b)


def test_prev_x_is_the_difference():
    "`save_prev_x=False` begins each call with zeros where the word before would be; the memory goes on"
    torch.manual_seed(0)
    a, b = QRNN(3, 4, save_prev_x=True), QRNN(3, 4)
    b.load_state_dict(a.state_dict())
    x = torch.randn(2, 6, 3)
    (_, s), (_, t) = a(x[:, :3]), b(x[:, :3])
    assert [tuple(o.shape) for o in s]==[(1, 2, 4), (1, 2, 3)] and [tuple(o.shape) for o in t]==[(1, 2, 4)]
    assert torch.equal(s[1][0], x[:, 2])
    out, plain = a(x[:, 3:], s)[0], b(x[:, 3:], t)[0]
    torch.testing.assert_close(a(x[:, 3:], (s[0], torch.zeros_like(s[1])))[0], plain)
    assert not torch.allclose(out, plain)


def test_directions_are_symmetric():
    "Check 21: reading backward is reading the text turned round; a two-way stack is the two side by side, `save_prev_x` included"
    torch.manual_seed(0)
    both = QRNN(5, 3, 2, bidirectional=True, save_prev_x=True).requires_grad_(False)
    one = QRNN(5, 3, 2, save_prev_x=True).requires_grad_(False)
    x = torch.randn(2, 7, 5)
    sd = both.state_dict()
    one.load_state_dict({k: v for k, v in sd.items() if 'bwd' not in k})
    torch.testing.assert_close(both(x)[0][..., :3], one(x)[0])
    one.load_state_dict({k.replace('_bwd', ''): v for k, v in sd.items() if 'bwd' in k})
    torch.testing.assert_close(both(x)[0][..., 3:], one(x.flip(1))[0].flip(1))
    timed = QRNN(5, 3, 2, bidirectional=True, save_prev_x=True, batch_first=False)
    timed.load_state_dict(sd)
    torch.testing.assert_close(timed(x.transpose(0, 1))[0].transpose(0, 1), both(x)[0])


def test_layer_gradcheck():
    "Finite differences through a whole layer: gates, window of two, memory, output gate"
    torch.manual_seed(0)
    layer = QRNNLayer(3, 2, window=2, save_prev_x=True).double()
    x, c, prev = torch.randn(2, 5, 3).double().requires_grad_(), torch.randn(2, 2).double().requires_grad_(), torch.randn(2, 3).double().requires_grad_()
    def run(x, c, prev, *w):
        out, state = torch.func.functional_call(layer, dict(zip(dict(layer.named_parameters()), w)), (x, (c, prev)))
        return out, *state
    assert torch.autograd.gradcheck(run, (x, c, prev, *layer.parameters()))


def test_zoneout():
    "A21: the mask is unscaled, so no gate exceeds 1; evaluation takes the mean; at 1 the memory is held for good"
    torch.manual_seed(0)
    layer = QRNNLayer(4, zoneout=.4)
    f = torch.rand(3, 200, 4)
    g = layer.zone_out(f)
    assert set((g/f).unique().tolist())=={0., 1.} and abs((g==0).float().mean()-.4)<.05
    torch.testing.assert_close(layer.eval().zone_out(f), f*.6)
    mean = torch.stack([layer.train().zone_out(f) for _ in range(400)]).mean(0)
    assert (mean-f*.6).abs().max()<.15 and abs((mean-f*.6).mean())<.005
    layer.zoneout, c = 1., torch.randn(3, 4)
    for train in (True, False): assert torch.equal(layer.train(train)(torch.randn(3, 9, 4), (c,))[1][0], c)
    x = torch.randn(3, 9, 4)
    layer.zoneout = .4
    assert not torch.equal(layer.train()(x)[0], layer(x)[0]) and torch.equal(layer.eval()(x)[0], layer(x)[0])


def test_dropout_between_layers():
    "A21: `dropout` works in training, between layers and not after the last; not in evaluation"
    torch.manual_seed(0)
    rnn, x = QRNN(4, 5, 2, dropout=.5), torch.randn(2, 9, 4)
    assert not torch.equal(rnn(x)[0], rnn(x)[0]) and torch.equal(rnn.eval()(x)[0], rnn(x)[0])
    one = QRNN(4, 5, 1, dropout=.5)
    assert torch.equal(one(x)[0], one(x)[0])


def test_bad_arguments():
    "Windows, zoneout and states that make no sense are named"
    for kw, words in ((dict(window=3), '1 or 2'), (dict(zoneout=2.), 'zoneout')):
        with pytest.raises(ValueError, match=words): QRNN(3, 4, **kw)
    enc = AWD_LSTM(30, **SMALL)
    state = enc(torch.zeros(3, 2).long())[2]
    with pytest.raises(ValueError, match='3 rows and the input 1'): enc(torch.zeros(1, 2).long(), state)
    with pytest.raises(ValueError, match="'qrnn'"): get_language_model(AWD_LSTM, 30, dict(qrn=True))


# ---- parity

def test_lm_golden():
    "Check 10: three windows, the state carried over, equal fastai's; `step` gives the same without storing anything"
    g, w = golden('awd_qrnn_lm')
    model, state = loaded(get_language_model(AWD_LSTM, 37, dict(emb_sz=12, n_hid=20, n_layers=3, qrnn=True)), w), None
    for i in range(3):
        decoded, raws, outs = model(g[f'x{i}'])
        for a, b in ((decoded, 'decoded'), (raws[-1], 'raw_last'), (outs[-1], 'out_last')): torch.testing.assert_close(a, g[f'{b}{i}'], atol=1e-5, rtol=0)
        kept = model.state
        stepped, state = model.step(g[f'x{i}'], state)
        assert model.state is kept
        torch.testing.assert_close(stepped, g[f'decoded{i}'], atol=1e-5, rtol=0)


def test_clas_golden():
    "Classifier scores and states equal fastai's"
    g, w = golden('awd_qrnn_clas')
    scores, _, outs = loaded(get_text_classifier(AWD_LSTM, 37, 3, bptt=5, max_len=100, config=dict(emb_sz=12, n_hid=20, n_layers=3, qrnn=True)), w)(g['x'])
    torch.testing.assert_close(scores, g['logits'], atol=1e-5, rtol=0)
    torch.testing.assert_close(outs[-1], g['out_last'], atol=1e-5, rtol=0)


def test_configurations():
    "The configurations by name: v1's sizes with the switch set, MultiFiT's four layers; each builds both models, with the keys of fastai's files"
    def count(m): return sum(p.numel() for p in m.parameters())
    lm = get_language_model(AWD_LSTM, 100, awd_qrnn_lm_config)
    assert count(lm[0].rnns)==3456*801+3456*1153+1200*1153 and {**awd_qrnn_lm_config, 'qrnn': False}==awd_lstm_lm_config
    assert {**awd_qrnn_clas_config, 'qrnn': False}==awd_lstm_clas_config
    for lm_cfg, clas_cfg, n in ((awd_qrnn_small_lm_config, awd_qrnn_small_clas_config, 2), (multifit_lm_config, multifit_clas_config, 4)):
        lm, clas = get_language_model(AWD_LSTM, 20, lm_cfg), get_text_classifier(AWD_LSTM, 20, 2, config=clas_cfg)
        keys = {f'0.rnns.{l}.layers.0.linear.{k}' for l in range(n) for k in ('weight_raw', 'module.bias')}
        assert {k for k in lm.state_dict() if '.rnns.' in k}==keys and count(clas[0].module)==count(lm[0])
    assert [r.layers[0].hidden_size for r in lm[0].rnns]==[1552, 1552, 1552, 400] and [r.layers[0].window for r in lm[0].rnns]==[2, 1, 1, 1]


@pytest.mark.parametrize('bidir', [False, True])
def test_groups_and_dropouts(bidir):
    "Check 22: every parameter is in exactly one layer group; all `_p` scale with `drop_mult`, weight dropout in both directions"
    clas = get_text_classifier(AWD_LSTM, 30, 2, config=dict(**SMALL, bidir=bidir), drop_mult=.5)
    groups = [{id(p) for m in g for p in m.parameters()} for g in model_meta(AWD_LSTM)['split_clas'](clas)]
    assert len(groups)==4 and sum(map(len, groups))==len(set.union(*groups)) and set.union(*groups)=={id(p) for p in clas.parameters()}
    enc, cfg = clas[0].module, awd_lstm_clas_config
    drops = [way[0].linear for rnn in enc.rnns for way in rnn.ways]
    assert len(drops)==(4 if bidir else 2) and all(isinstance(d, WeightDropout) and d.weight_p==cfg['weight_p']/2 for d in drops)
    assert [enc.hidden_dps[0].p, enc.input_dp.p, enc.encoder_dp.embed_p]==[cfg['hidden_p']/2, cfg['input_p']/2, cfg['embed_p']/2]
    with_zoneout = get_text_classifier(AWD_LSTM, 30, 2, config=dict(**SMALL, bidir=bidir, zoneout_p=.3), drop_mult=.5)[0].module
    assert [way[0].zoneout for rnn in with_zoneout.rnns for way in rnn.ways]==[.15]*len(drops)
    with pytest.raises(ValueError, match='add qrnn=True'): get_language_model(AWD_LSTM, 30, dict(zoneout_p=.3))
    drop = WeightDropout(nn.Linear(20, 30), .5, ['weight'])
    assert 200<(drop.dropped_weights()['weight']==0).sum()<400


# ---- the encoder

def test_encoder_is_pure():
    "Law 4: the encoder keeps nothing, changes no state it is given, and rows of a state can be forked; words may come as vectors"
    torch.manual_seed(0)
    enc = AWD_LSTM(30, **SMALL).eval().requires_grad_(False)
    ids, before = torch.randint(2, 30, (3, 9)), {k: v.clone() for k, v in enc.state_dict().items()}
    _, outs, _ = enc(ids)
    _, _, state = enc(ids[:, :4])
    kept = [[o.clone() for o in s] for s in state]
    for _ in range(2): torch.testing.assert_close(enc(ids[:, 4:], state)[1][-1], outs[-1][:, 4:])
    assert all(torch.equal(a, b) for s, k in zip(state, kept) for a, b in zip(s, k))
    assert all(torch.equal(v, before[k]) for k, v in enc.state_dict().items()) and enc.state_bs(state)==3
    pick = torch.tensor([2, 0, 0, 1])
    torch.testing.assert_close(enc(ids[pick, 4:], enc.select_state(state, pick))[1][-1], outs[-1][pick, 4:])
    torch.testing.assert_close(enc(enc.encoder(ids), from_embeddings=True)[1][-1], outs[-1])
    res, threads = [None]*3, []
    def work(i): res[i] = enc(ids[i:i+1, 4:], enc.select_state(state, slice(i, i+1)))[1][-1]
    for i in range(3): threads.append(threading.Thread(target=work, args=(i,))), threads[-1].start()
    for t in threads: t.join()
    torch.testing.assert_close(torch.cat(res), outs[-1][:, 4:])


def test_causal():
    "A word changes nothing before it"
    torch.manual_seed(0)
    enc = AWD_LSTM(30, **SMALL).eval()
    ids = torch.randint(2, 30, (1, 12))
    other = ids.clone()
    other[0, 7] = ids[0, 7]%27+2
    a, b = enc(ids)[1][-1], enc(other)[1][-1]
    assert torch.equal(a[:, :7], b[:, :7]) and not torch.allclose(a[:, 7], b[:, 7])


@pytest.mark.parametrize('bidir', [False, True])
def test_gradients(bidir):
    "In training every parameter gets a gradient, of the size that finite differences say; a detached state passes none"
    torch.manual_seed(0)
    enc = AWD_LSTM(12, **SMALL, bidir=bidir).double()
    ids = torch.randint(2, 12, (2, 5))
    enc.train()(ids)[1][-1].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum()>0 for p in enc.parameters())
    vecs = torch.randn(2, 5, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: enc.eval()(x, from_embeddings=True)[1][-1], vecs)
    _, _, state = enc(vecs, from_embeddings=True)
    assert state[0][1].requires_grad and not any(o.requires_grad for s in enc.detach_state(state) for o in s)


def test_bfloat16():
    "Under autocast the products are in bfloat16 and the memory in float32; the loss stays close, every parameter gets a gradient"
    torch.manual_seed(0)
    lm = get_language_model(AWD_LSTM, 30, SMALL, drop_mult=0.)
    x, y = torch.randint(2, 30, (4, 9)), torch.randint(2, 30, (4, 9))
    def loss(): return F.cross_entropy(lm(x)[0].float().flatten(0, 1), y.flatten())
    exact = loss()
    lm.reset()
    with torch.autocast('cpu', torch.bfloat16):
        half = loss()
        assert lm[0](x)[1][-1].dtype==torch.bfloat16 and lm.state[0][0].dtype==torch.float32
        assert loss().isfinite()
    half.backward()
    assert abs(exact-half)<.02 and all(p.grad is not None for p in lm.parameters())
    assert lm.bfloat16()(x)[0].dtype==torch.bfloat16


def test_no_global_effects():
    "Law 8: evaluation draws no random numbers and warns of nothing; a two-way language model is warned of"
    torch.manual_seed(0)
    model, before = get_text_classifier(AWD_LSTM, 30, 2, config=SMALL).eval(), None
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        model(docs_of(300)[0][None])[0].sum().backward()
    assert torch.equal(before, torch.get_rng_state())
    with pytest.warns(UserWarning, match='two-way'): get_language_model(AWD_LSTM, 30, dict(**SMALL, bidir=True))


# ---- learners

def log_probs(learn, ids):
    "Log-probabilities of each next word, in one run over `ids`"
    with torch.no_grad(): return learn.model.eval().step(torch.tensor([ids], device=learn.device), None)[0][0].log_softmax(-1)


@pytest.mark.parametrize('backwards', [False, True])
def test_from_language_model_to_classifier(tmp_path, backwards):
    "Train, write, transfer, classify, export and load again: forward and backward"
    set_seed(1)
    lm = language_model_learner(lm_data(tmp_path, backwards=backwards), AWD_LSTM, config=TOY, drop_mult=.1, pretrained=False, silent=True)
    first = float(lm.validate()[0])
    lm.fit_one_cycle(5, 2e-2)
    assert float(lm.validate()[0])<first-.25
    text = lm.predict('the film', 6, seed=0)
    assert text==lm.predict('the film', 6, seed=0) and (text.endswith(' the film') if backwards else text.startswith('the film '))
    assert lm.beam_search('the film', 4, beam_sz=3)
    lm.export('lm.tnb')
    assert load_learner(tmp_path, 'lm.tnb').predict('the film', 6, seed=0)==text
    lm.save_encoder('enc')
    learn = text_classifier_learner(clas_data(tmp_path, backwards, lm.data.vocab), AWD_LSTM, config=TOY, drop_mult=.1, pretrained=False, silent=True)
    learn.load_encoder('enc')
    for (k, a), b in zip(lm.model[0].state_dict().items(), encoder_of(learn.model).state_dict().values()): assert torch.equal(a, b), k
    assert not any(p.requires_grad for p in encoder_of(learn.model).parameters())
    learn.unfreeze()
    learn.fit_one_cycle(8, 2e-2)
    assert float(learn.validate()[1])>.7
    learn.export()
    texts = ['a great film', '', 'awful '*300]
    for a, b in zip(learn.predict(texts), load_learner(tmp_path).predict(texts)): assert torch.equal(a[2], b[2])


def test_two_way_classifier(tmp_path):
    "A two-way classifier trains, predicts each document by itself, and comes back from its archive"
    set_seed(1)
    learn = text_classifier_learner(clas_data(tmp_path), AWD_LSTM, config=dict(TOY, bidir=True), drop_mult=.1, bptt=4, pretrained=False, silent=True)
    learn.fit_one_cycle(8, 2e-2)
    assert float(learn.validate()[1])>.7
    texts = ['a great film', 'it was an awful night of music', 'dull '*40]
    want = [learn.predict(t)[2] for t in texts]
    learn.export()
    for a, b in zip(load_learner(tmp_path).predict(texts), want): torch.testing.assert_close(a[2], b, atol=1e-6, rtol=0)


def test_human_numbers(tmp_path):
    "Check 25 with a QRNN: numbers in words are learned, accuracy above .3; writing one step at a time is writing from the whole text"
    set_seed(0)
    nums = human_numbers()
    df = [pd.DataFrame(dict(label=0, text=[' '.join(nums.text[nums.is_valid==v][:n])])) for v, n in ((False, 7000), (True, 500))]
    data = TextLMDataBunch.from_df(tmp_path, *df, bs=16, bptt=30, min_freq=1, text_cols='text', label_cols='label')
    learn = language_model_learner(data, AWD_LSTM, config=dict(emb_sz=64, n_hid=64, n_layers=2, qrnn=True), pretrained=False, silent=True, drop_mult=.1)
    learn.fit_one_cycle(3, 1e-2)
    assert float(learn.validate()[1])>.3
    start = 'one hundred forty two'
    x = data.encode(start).tolist()
    n = len(x)
    words = data.vocab.numericalize(learn.predict(start, 12, temperature=1e-6).split()[-12:])
    for w in words:
        assert log_probs(learn, x)[-1, w]>=log_probs(learn, x)[-1].max()-1e-4
        x.append(w)
    assert len(x)==n+12


def test_no_published_weights(tmp_path):
    "The published weights are those of LSTMs: a QRNN says that there are none and starts from its own"
    with pytest.warns(UserWarning, match='no pretrained weights'): learn = text_classifier_learner(clas_data(tmp_path), AWD_LSTM, config=TOY, silent=True)
    assert all(p.requires_grad for p in learn.model.parameters())


def test_files_of_fastai(tmp_path):
    "A language model's `.pth` of fastai goes into a QRNN, words re-mapped; weights of an LSTM are refused with both names, and nothing is loaded"
    set_seed(0)
    cfg = dict(emb_sz=12, n_hid=16, n_layers=2)
    lm = language_model_learner(lm_data(tmp_path), AWD_LSTM, config=dict(**cfg, qrnn=True), pretrained=False, silent=True)
    sd = v1_files(lm, tmp_path/'models')
    for k in [k for k in sd if k.endswith('linear.weight_raw')]: sd[k.replace('weight_raw', 'module.weight')] = sd[k].clone()
    torch.save(sd, tmp_path/'models'/'w.pth')
    learn = text_classifier_learner(clas_data(tmp_path, vocab=lm.data.vocab), AWD_LSTM, config=dict(**cfg, qrnn=True), pretrained_fnames=['w', 'i'], silent=True)
    for k, v in encoder_of(learn.model).state_dict().items(): assert torch.equal(v, sd[f'0.{k}']), k
    assert not learn.load_report.missing
    other = text_classifier_learner(clas_data(tmp_path, vocab=lm.data.vocab), AWD_LSTM, config=cfg, pretrained=False, silent=True)
    before = {k: v.clone() for k, v in other.model.state_dict().items()}
    with pytest.raises(ValueError, match='rnns.0'): other.load_pretrained('w', 'i')
    assert all(torch.equal(v, before[k]) for k, v in other.model.state_dict().items())


