"Models: parity with fastai 1.0.61, the laws on padding and purity, and what must not come back from fastai's list of bugs"
import copy, threading, warnings
from pathlib import Path

import numpy as np, pytest, torch, torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import nn

from textnb.base import full_float32
from textnb.models import *
from textnb.models.kernels import _FusedLSTM, _packed

GOLDENS = Path(__file__).parent/'goldens'
SMALL = dict(emb_sz=6, n_hid=8, n_layers=2)
kinds = pytest.mark.parametrize('kind', [SMALL, dict(**SMALL, qrnn=True)], ids=['lstm', 'qrnn'])


def golden(name):
    with np.load(GOLDENS/f'{name}.npz') as z: arrays = {k: torch.tensor(z[k]) for k in z}
    return arrays, {k[2:]: v for k, v in arrays.items() if k.startswith('w/')}


def loaded(model, weights):
    model.load_state_dict(weights, strict=True)
    return model.eval().requires_grad_(False)


def rows(docs, left, extra=0):
    sl = max(map(len, docs))+extra
    return torch.stack([F.pad(d, (sl-len(d), 0) if left else (0, sl-len(d)), value=1) for d in docs])


def small_clas(seed=0, n_class=3, **kw):
    torch.manual_seed(seed)
    model = get_text_classifier(AWD_LSTM, 30, n_class, **{'bptt': 3, 'config': SMALL, **kw})
    for b in model[1].layers:
        if isinstance(b, nn.BatchNorm1d): b.running_mean.uniform_(-.1, .1), b.running_var.uniform_(.5, 2)
    return model.eval().requires_grad_(False)


def docs_of(*lens, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return [torch.randint(2, 30, (n,), generator=gen) for n in lens]


@pytest.mark.parametrize('name,n_layers,bidir', [('awd_lstm_lm', 3, False), ('awd_lstm_bidir', 2, True)])
def test_lm_golden(name, n_layers, bidir):
    "Check 10: three windows, the state carried over, equal fastai's; `step` gives the same without storing anything"
    g, w = golden(name)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        model = loaded(get_language_model(AWD_LSTM, 37, dict(emb_sz=12, n_hid=20, n_layers=n_layers, bidir=bidir)), w)
    state = None
    for i in range(3):
        decoded, raws, outs = model(g[f'x{i}'])
        for a, b in ((decoded, 'decoded'), (raws[-1], 'raw_last'), (outs[-1], 'out_last')):
            torch.testing.assert_close(a, g[f'{b}{i}'], atol=1e-5, rtol=0)
        kept = model.state
        stepped, state = model.step(g[f'x{i}'], state)
        assert model.state is kept
        torch.testing.assert_close(stepped, g[f'decoded{i}'], atol=1e-5, rtol=0)


@pytest.mark.parametrize('name,kw', [('awd_lstm_clas', dict(n_layers=3)), ('awd_lstm_clas_heads', dict(n_layers=2))])
def test_clas_golden(name, kw):
    "Classifier scores and states equal fastai's, for the default head and for one of two layers"
    g, w = golden(name)
    head = dict(lin_ftrs=[7, 6], ps=[0.2, 0.3]) if 'heads' in name else {}
    model = loaded(get_text_classifier(AWD_LSTM, 37, 3, bptt=5, max_len=100, config=dict(emb_sz=12, n_hid=20, **kw), **head), w)
    for mode in (torch.enable_grad, torch.no_grad):
        with mode(): scores, raws, outs = model(g['x'])
        torch.testing.assert_close(scores, g['logits'], atol=1e-5, rtol=0)
        torch.testing.assert_close(outs[-1], g['out_last'], atol=1e-5, rtol=0)


def test_pool_golden():
    "Check 19: pooling equals fastai's on its padded batch, and a plain numpy computation document by document"
    g, _ = golden('masked_concat_pool')
    res = masked_concat_pool([g['output']], g['mask'])
    torch.testing.assert_close(res, g['pooled'], atol=1e-6, rtol=0)
    for o, m, r in zip(g['output'].numpy(), g['mask'].numpy(), res.numpy()):
        o = o[~m]
        np.testing.assert_allclose(r, np.concatenate([o[-1], o.max(0), o.mean(0)]), atol=1e-6)
    one = torch.randn(1, 4, 3)
    assert torch.equal(masked_concat_pool([one], torch.tensor([[True, False, True, True]])), one[:, 1].repeat(1, 3))
    assert torch.equal(masked_concat_pool([one], torch.ones(1, 4).bool()), torch.zeros(1, 9))


def test_ar_tar_golden():
    "The formulas of AR and TAR as the decoder's outputs feed them: alpha·mean(dropped²), beta·mean((h_t - h_{t-1})²)"
    g, _ = golden('ar_tar')
    torch.testing.assert_close(2*g['out'].pow(2).mean(), g['ar'], atol=1e-5, rtol=0)
    torch.testing.assert_close((g['raw'][:, 1:]-g['raw'][:, :-1]).pow(2).mean(), g['tar'], atol=1e-5, rtol=0)


def test_ar_sees_dropped_output():
    "A14: `outputs[-1]` of a language model is the dropped tensor that went into the decoder, `raw_outputs[-1]` is not dropped"
    model = get_language_model(AWD_LSTM, 30, dict(**SMALL, output_p=0.5))
    decoded, raws, outs = model(torch.randint(2, 30, (4, 7)))
    torch.testing.assert_close(model[1].decoder(outs[-1]), decoded)
    assert (outs[-1]==0).float().mean()>.2 and not (raws[-1]==0).any()
    raws, outs = model.eval()(torch.randint(2, 30, (4, 7)))[1:]
    assert torch.equal(raws[-1], outs[-1])


def test_state_dicts_v1_v2():
    "Check 11: v1's dict (each recurrent weight twice, the table twice) and v2's load strictly; ours has each tensor once"
    g, w = golden('awd_lstm_lm')
    v2 = {k: v for k, v in w.items() if not k.endswith('module.weight_hh_l0') and 'encoder_dp' not in k}
    models = [loaded(get_language_model(AWD_LSTM, 37, dict(emb_sz=12, n_hid=20)), sd) for sd in (w, v2)]
    scores = [m(g['x0'])[0] for m in models]
    assert torch.equal(*scores)
    assert set(models[0].state_dict())==set(v2)
    broken = {**w, '0.encoder_dp.emb.weight': torch.zeros(37, 12)}
    with pytest.raises(RuntimeError, match='two models'): models[0].load_state_dict(broken)
    with pytest.raises(RuntimeError, match='weight_hh_l0_raw'): models[0].load_state_dict({k: v for k, v in v2.items() if 'rnns.1.weight_hh' not in k})
    with pytest.raises(RuntimeError, match='nonsense'): models[0].load_state_dict({**v2, '0.nonsense': torch.zeros(1)})


def test_parameter_counts():
    "Check 11: the sizes of fastai's models, in all and by layer group (vocabulary 1,000)"
    lm, clas = get_language_model(AWD_LSTM, 1000), get_text_classifier(AWD_LSTM, 1000, 2)
    def count(ms): return sum({p: p.numel() for m in ms for p in m.parameters()}.values())
    assert count([lm])==20_674_280 and count([clas])==20_735_932
    assert [count(g) for g in awd_lstm_lm_split(lm)]==[7160832, 10626048, 2486400, 401000]
    assert [count(g) for g in awd_lstm_clas_split(clas)]==[400000, 7160832, 10626048, 2486400, 62652]


@pytest.mark.parametrize('bidir', [False, True])
def test_groups_hold_each_parameter_once(bidir):
    "Check 22: every parameter is in exactly one layer group, for both heads"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        lm = get_language_model(AWD_LSTM, 30, dict(**SMALL, bidir=bidir))
    clas = get_text_classifier(AWD_LSTM, 30, 2, config=dict(**SMALL, bidir=bidir))
    meta = model_meta(AWD_LSTM)
    for model, split, n in ((lm, meta['split_lm'], 3), (clas, meta['split_clas'], 4)):
        groups = [{id(p) for m in g for p in m.parameters()} for g in split(model)]
        assert len(groups)==n and sum(map(len, groups))==len(set.union(*groups))
        assert set.union(*groups)=={id(p) for p in model.parameters()}


def test_dropouts():
    "Check 12: masks constant over time, whole words dropped and scaled, the first step blind to the recurrent mask, raw weights left alone"
    torch.manual_seed(0)
    out = RNNDropout(.5)(torch.ones(3, 5, 20))
    assert torch.equal(out, out[:, :1].expand_as(out)) and set(out.unique().tolist())=={0., 2.}
    emb = nn.Embedding(50, 4, padding_idx=1)
    words = torch.arange(50)
    vecs = EmbeddingDropout(emb, .25)(words)
    gone = (vecs==0).all(1)
    assert 2<gone.sum()<30
    torch.testing.assert_close(vecs[~gone], emb(words)[~gone]/.75)
    rnn = WeightDropout(LSTM(4, 6), .5)
    before = {k: v.clone() for k, v in rnn.state_dict().items()}
    x = torch.randn(2, 5, 4)
    a, b = rnn(x)[0], rnn(x)[0]
    assert torch.equal(a[:, 0], b[:, 0]) and not torch.allclose(a[:, 1:], b[:, 1:])
    a.sum().backward()
    assert rnn.weight_hh_l0_raw.grad.abs().sum()>0
    assert torch.equal(rnn.eval()(x)[0], rnn(x)[0])
    assert all(torch.equal(v, before[k]) for k, v in rnn.state_dict().items())


def test_last_word_learns():
    "A19: the last word of the vocabulary gets its gradient when there is no padding word"
    enc = AWD_LSTM(10, 4, 5, 1, pad_token=None, embed_p=0.)
    enc(torch.full((2, 3), 9))[1][-1].sum().backward()
    assert enc.encoder.weight.grad[9].abs().sum()>0


def test_backward_weights_are_dropped():
    "A20: weight dropout reaches both directions"
    rnn = AWD_LSTM(10, 4, 6, 1, bidir=True).rnns[0]
    assert rnn.layer_names==['weight_hh_l0', 'weight_hh_l0_reverse']
    assert all((w==0).float().mean()>.2 for w in rnn.dropped_weights().values())


@kinds
@settings(max_examples=30, deadline=None)
@given(lens=st.lists(st.integers(1, 25), min_size=1, max_size=6), bptt=st.integers(1, 9), max_len=st.integers(1, 30), left=st.booleans(), extra=st.integers(0, 9), bidir=st.booleans(), grad=st.booleans())
def test_padding_never_matters(kind, lens, bptt, max_len, left, extra, bidir, grad):
    "Checks 17 and 18: a row's states are those of its document alone, exactly the last `max_len` of them, zero behind"
    torch.manual_seed(1)
    enc = AWD_LSTM(30, **kind, bidir=bidir).eval()
    docs = docs_of(*lens)
    with torch.set_grad_enabled(grad):
        raws, outs, mask = MultiBatchEncoder(bptt, max_len, enc)(rows(docs, left, extra))
        for i, d in enumerate(docs):
            n = min(len(d), max_len)
            assert (~mask[i]).sum()==n and mask[i, n:].all()
            for got, expect in zip([*raws, *outs], enc(d[None])[0]+enc(d[None])[1]):
                torch.testing.assert_close(got[i, :n], expect[0, -n:], atol=1e-6, rtol=0)
                assert (got[i, n:]==0).all()


@kinds
@pytest.mark.parametrize('bidir', [False, True])
def test_class_depends_on_document_alone(kind, bidir):
    "Check 17: alone, unsorted, reversed, with 0 to 500 pads on either side, long enough for each kernel of a QRNN; with the lengths 11, 6, 5 that fastai v2 lost words of"
    model = small_clas(config=dict(**kind, bidir=bidir))
    docs = docs_of(11, 6, 5, 400, 1)
    alone = torch.cat([model(d[None])[0] for d in docs])
    for extra in (0, 1, 37, 500):
        for left in (True, False):
            torch.testing.assert_close(model(rows(docs, left, extra))[0], alone, atol=1e-6, rtol=0)
            torch.testing.assert_close(model(rows(docs[::-1], left, extra))[0].flip(0), alone, atol=1e-6, rtol=0)
            with torch.no_grad(): torch.testing.assert_close(model(rows(docs, left, extra))[0], alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(model(rows(docs[:3], False))[0], alone[:3], atol=1e-6, rtol=0)


@kinds
@pytest.mark.parametrize('sl', [1399, 1400, 1401, 5000])
def test_max_len_is_exact(kind, sl):
    "Check 18: exactly the last 1,400 words are pooled"
    model = small_clas(bptt=70, max_len=1400, config=kind)
    doc = docs_of(sl)[0][None]
    with torch.no_grad():
        scores, _, outs = model(doc)
        whole = model[0].module(doc)[1][-1]
    assert outs[-1].shape[1]==min(sl, 1400)
    torch.testing.assert_close(outs[-1], whole[:, -1400:], atol=1e-6, rtol=0)


def test_max_len_below_bptt():
    "A5: a `max_len` smaller than the window works"
    model = small_clas(bptt=70, max_len=7)
    assert model(docs_of(100)[0][None])[2][-1].shape==(1, 7, 6)


def test_gradients_depend_on_document_alone():
    "Law 3 in training: the gradient of a document's score does not depend on its batch mates, windows fully before `max_len` give none"
    torch.manual_seed(0)
    enc = AWD_LSTM(30, **SMALL).eval()
    docs = docs_of(19, 4, 11, 30)
    def grads(batch, i):
        out = MultiBatchEncoder(4, 8, enc)(batch)[1][-1]
        return torch.autograd.grad(out[i].pow(2).sum(), list(enc.parameters()))
    for i, d in enumerate(docs):
        for a, b in zip(grads(rows(docs, True), i), grads(d[None], 0)): torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
    seen = []
    hook = enc.encoder.register_forward_hook(lambda m, i, o: seen.append(o.requires_grad))
    enc.encoder_dp.embed_p = 0.
    class Spy(nn.Module):
        def __getattr__(self, k): return getattr(enc, k)
        def forward(self, x, state=None):
            res = enc(x, state)
            seen.append(res[1][-1].requires_grad)
            return res
    MultiBatchEncoder(4, 8, Spy())(docs[3][None])
    hook.remove()
    assert seen==[False]*5+[True]*3


def test_empty_documents():
    "Empty text: a clear result, no NaN, and the neighbours are not touched"
    model = small_clas()
    docs = docs_of(5, 3)
    batch = torch.cat([rows(docs, True), torch.ones(1, 5).long()])
    scores = model(batch)[0]
    assert not scores.isnan().any()
    torch.testing.assert_close(scores[:2], model(rows(docs, True))[0], atol=1e-6, rtol=0)
    for shape in ((1, 4), (2, 0)): torch.testing.assert_close(model(torch.ones(shape).long())[0][0], scores[2], atol=1e-6, rtol=0)


def test_lm_state_follows_batch_size():
    "B5: works with any batch size before any reset; a changed one starts afresh, as do `reset` and a move to another type"
    torch.manual_seed(0)
    model = get_language_model(AWD_LSTM, 30, SMALL).eval().requires_grad_(False)
    x = torch.randint(2, 30, (3, 5))
    first = model(x)[0]
    again = model(x)[0]
    assert not torch.allclose(first, again)
    torch.testing.assert_close(model(x[:1])[0], first[:1], atol=1e-6, rtol=0)
    torch.testing.assert_close(model(x)[0], first)
    model.reset()
    torch.testing.assert_close(model(x)[0], first)
    assert model.double().state is None
    assert 'state' not in ''.join(model.state_dict())


def test_threads_share_a_model():
    "B14: many threads, one model, the same numbers as one thread"
    model = small_clas()
    docs = docs_of(*range(1, 25))
    expect = [model(d[None])[0] for d in docs]
    got = [None]*len(docs)
    def work(k):
        for i in range(k, len(docs), 4): got[i] = model(docs[i][None])[0]
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    for a, b in zip(got, expect): torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_beam_rows_can_be_forked():
    "A state's rows can be taken, repeated and put in another order"
    torch.manual_seed(0)
    model = get_language_model(AWD_LSTM, 30, SMALL).eval().requires_grad_(False)
    x = torch.randint(2, 30, (3, 6))
    _, state = model.step(x[:, :5])
    idxs = torch.tensor([2, 0, 0, 1])
    torch.testing.assert_close(model.step(x[idxs, 5:], model[0].select_state(state, idxs))[0], model.step(x[idxs])[0][:, 5:], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match='3 rows and the input 1'): model[0](x[:1], state)


@pytest.mark.parametrize('sl,bs', [(1, 1), (1, 4), (7, 3)])
def test_lstm_kernels_agree(sl, bs):
    "The native kernel and the fast layer give the same outputs and gradients"
    torch.manual_seed(0)
    ref = nn.LSTM(5, 4, batch_first=True).double()
    args = [torch.randn(s).double().requires_grad_() for s in ((bs, sl, 5), (bs, 4), (bs, 4))]
    weights = list(ref.parameters())
    def native(*a):
        out, (h, c) = ref(a[0], (a[1][None], a[2][None]))
        return out, h[0], c[0]
    fns = [native, lambda *a: _FusedLSTM.apply(*a, *weights, torch.float64)]
    res = [f(*args) for f in fns]
    grads = [torch.autograd.grad(sum((o*(i+1)).pow(2).sum() for i, o in enumerate(r)), args+weights) for r in res]
    for r, g in zip(res[1:], grads[1:]):
        for a, b in zip(r, res[0]): torch.testing.assert_close(a, b)
        for a, b in zip(g, grads[0]): torch.testing.assert_close(a, b)
    assert torch.autograd.gradcheck(fns[1], args)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('training', [True, False])
def test_lstm_on_a_gpu(training):
    "The encoder on a GPU gives the outputs and gradients that it gives on the CPU, in eval mode, too, and about those in bfloat16"
    torch.manual_seed(0)
    enc, x = AWD_LSTM(30, 16, 24, 2, hidden_p=0, input_p=0, embed_p=0, weight_p=0).train(training), torch.randint(2, 30, (3, 11))
    gpu = copy.deepcopy(enc).cuda()
    def run(m, ids):
        raw, _, state = m(ids, m(ids)[2])
        return [*raw, *state[0]], torch.autograd.grad(raw[-1].pow(2).sum(), list(m.parameters()))
    (a, ga), (b, gb) = run(enc, x), run(gpu, x.cuda())
    for o, p in zip([*a, *ga], [*b, *gb]): torch.testing.assert_close(p.cpu(), o, atol=1e-3, rtol=1e-2)
    with full_float32(): exact = run(gpu, x.cuda())
    for o, p in zip([*a, *ga], [*exact[0], *exact[1]]): torch.testing.assert_close(p.cpu(), o, atol=1e-5, rtol=1e-4)
    with torch.autocast('cuda', torch.bfloat16): half = run(gpu, x.cuda())[0]
    for o, p in zip(a, half): torch.testing.assert_close(p.cpu().float(), o, atol=.02, rtol=.05)


@pytest.mark.parametrize('sl,bs', [(1, 1), (1, 4), (7, 3), (40, 2), (3, 100)])
def test_packed_weights(sl, bs):
    "Reading with packed weights gives the numbers of PyTorch's kernel, and those of the new weights after a step, a load or a change through `.data`"
    torch.manual_seed(0)
    ref = nn.LSTM(5, 4, batch_first=True)
    weights = list(ref.parameters())
    x, h, c = (torch.randn(s) for s in ((bs, sl, 5), (bs, 4), (bs, 4)))
    def check():
        with torch.no_grad(): out, hn, cn = run_lstm(x, h, c, *weights)
        expect, (he, ce) = ref(x, (h[None], c[None]))
        for a, b in zip((out, hn, cn), (expect, he[0], ce[0])): torch.testing.assert_close(a, b.detach(), atol=1e-6, rtol=1e-6)
    check()
    opt = torch.optim.SGD(ref.parameters(), lr=1.)
    ref(x)[0].sum().backward()
    opt.step()
    check()
    ref.load_state_dict({k: torch.randn_like(v) for k, v in ref.state_dict().items()})
    check()
    for w in weights: w.data.add_(1)
    check()
    with torch.inference_mode(): run_lstm(x, h, c, *weights)
    check()
    if not torch.backends.mkldnn.is_available(): return
    with torch.no_grad():
        for o in ((x, h, c), (x[:1], h[:1], c[:1])): run_lstm(*o, *weights)
    assert set(_packed[weights[1]][1])=={bs==1, True}


def test_bfloat16_training():
    "B12: under autocast ids stay whole numbers, states and head work, the loss is close to float32's and every parameter gets a gradient"
    torch.manual_seed(0)
    lm = get_language_model(AWD_LSTM, 30, SMALL, drop_mult=0.)
    x, y = torch.randint(2, 30, (4, 9)), torch.randint(2, 30, (4, 9))
    def loss(model): return F.cross_entropy(model(x)[0].float().flatten(0, 1), y.flatten())
    exact = loss(lm)
    lm.reset()
    with torch.autocast('cpu', torch.bfloat16): half = loss(lm)
    half.backward()
    assert abs(exact-half)<.02 and all(p.grad is not None and p.grad.dtype==torch.float32 for p in lm.parameters())
    with torch.autocast('cpu', torch.bfloat16): assert loss(lm).isfinite()
    clas = get_text_classifier(AWD_LSTM, 30, 2, config=SMALL)
    with torch.autocast('cpu', torch.bfloat16): scores = clas(x)[0]
    scores.float().sum().backward()
    assert scores.isfinite().all()
    whole = copy.deepcopy(lm).bfloat16()
    assert whole(x)[0].dtype==torch.bfloat16


def test_training_lowers_the_loss():
    "A few steps on one batch: the loss falls in float32 and in bfloat16 alike"
    for half in (False, True):
        torch.manual_seed(0)
        lm = get_language_model(AWD_LSTM, 30, dict(emb_sz=20, n_hid=30, n_layers=2), drop_mult=.1)
        opt = torch.optim.Adam(lm.parameters(), 2e-2)
        x, losses = (torch.arange(11)+torch.arange(8)[:, None])%25+2, []
        for _ in range(30):
            lm.reset()
            with torch.autocast('cpu', torch.bfloat16, enabled=half): out = lm(x[:, :-1])[0]
            losses.append(F.cross_entropy(out.float().flatten(0, 1), x[:, 1:].flatten()))
            opt.zero_grad(), losses[-1].backward(), opt.step()
        assert losses[-1]<losses[0]*.7


def test_one_row_training_batch():
    "A training batch of one document goes through the head's batch norm"
    model = get_text_classifier(AWD_LSTM, 30, 2, config=SMALL).train()
    model(torch.tensor([[4, 5, 6]]))[0].sum().backward()
    assert all(p.grad is not None for p in model[0].parameters())


def test_config_errors():
    "B18: configs may be partial; unknown entries, wrong lists and unknown architectures say what to do; the caller's dict is left alone"
    cfg = dict(n_hid=8, emb_sz=6, n_layers=1)
    get_language_model(AWD_LSTM, 30, cfg, drop_mult=.5), get_text_classifier(AWD_LSTM, 30, 2, config=cfg, ps=.3, lin_ftrs=[5, 4])
    assert cfg==dict(n_hid=8, emb_sz=6, n_layers=1) and awd_lstm_lm_config['tie_weights'] and awd_lstm_clas_config['output_p']==.4
    with pytest.raises(ValueError, match="'weight_p'"): get_language_model(AWD_LSTM, 30, dict(wieght_p=.1))
    with pytest.raises(ValueError, match='tie_weights'): get_text_classifier(AWD_LSTM, 30, 2, config=dict(tie_weights=True))
    with pytest.raises(ValueError, match='register_arch'): get_language_model(nn.LSTM, 30)
    with pytest.raises(ValueError, match='3 dropouts'): get_text_classifier(AWD_LSTM, 30, 2, lin_ftrs=[5], ps=[.1, .2, .3])
    with pytest.raises(ValueError, match="'hidden_p' would be 1.35"): get_language_model(AWD_LSTM, 30, SMALL, drop_mult=9.)
    with pytest.raises(TypeError, match='language models'): small_clas().step(torch.zeros(1, 2).long())
    with pytest.warns(UserWarning, match='two-way'): get_language_model(AWD_LSTM, 30, dict(**SMALL, bidir=True))


def test_dropouts_scale_with_drop_mult():
    "`drop_mult` scales what ends in `_p`; `ps` of the head is not scaled"
    lm = get_language_model(AWD_LSTM, 30, SMALL, drop_mult=.5)
    enc = lm[0]
    assert np.allclose([lm[1].output_dp.p, enc.hidden_dps[0].p, enc.input_dp.p, enc.encoder_dp.embed_p, enc.rnns[0].weight_p], [.05, .075, .125, .01, .1])
    head = get_text_classifier(AWD_LSTM, 30, 2, config=SMALL, drop_mult=.5, ps=[.3])[1]
    assert [m.p for m in head.layers if isinstance(m, nn.Dropout)]==[.2, .3]


def test_models_register_and_namespace():
    "A new architecture is added with one call; `textnb.models` holds v1's names"
    class Toy(AWD_LSTM): "another name"
    register_arch(Toy, 'emb_sz', awd_lstm_lm_config, awd_lstm_clas_config, awd_lstm_lm_split, awd_lstm_clas_split)
    assert get_language_model(Toy, 30, SMALL)[0].emb_sz==6 and model_meta(Toy)['url'] is None
    import textnb.models as m
    v1 = 'AWD_LSTM EmbeddingDropout LinearDecoder MultiBatchEncoder PoolingLinearClassifier RNNDropout SequentialRNN WeightDropout dropout_mask awd_lstm_lm_config awd_lstm_clas_config awd_lstm_lm_split awd_lstm_clas_split masked_concat_pool get_language_model get_text_classifier'
    assert not [n for n in v1.split() if not hasattr(m, n)]


def test_no_global_effects():
    "Law 8: building draws from the generator, evaluating does not; no flags, no warnings"
    model = small_clas()
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        model(docs_of(9)[0][None])
        with torch.autocast('cpu', torch.bfloat16): model(docs_of(9)[0][None])
    assert torch.equal(before, torch.get_rng_state()) and torch.is_grad_enabled()
