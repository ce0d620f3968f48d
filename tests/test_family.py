"Every architecture by the same yardstick: sizes, laws, layer groups, training, transfer, writing, attribution, export"
import numpy as np, pandas as pd, pytest, torch, torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import nn
from textnb.all import *
from textnb.learn import EnsembleLearner
from textnb import models
from textnb.models import *

rnn, tfm = dict(emb_sz=12, n_hid=16, n_layers=2), dict(n_layers=2, n_heads=2, d_model=12, d_head=6, d_inner=16)
FAMILY = {'awd_lstm': (AWD_LSTM, rnn), 'awd_qrnn': (AWD_LSTM, dict(rnn, qrnn=True)), 'tfmer': (Transformer, dict(tfm, ctx_len=32)),
    'tfmerXL': (TransformerXL, dict(tfm, ctx_len=8, mem_len=40)), 'gru': (SimpleGRU, rnn)}
TWO_WAYS = {'awd_lstm_bidir': (AWD_LSTM, dict(rnn, bidir=True)), 'awd_qrnn_bidir': (AWD_LSTM, dict(rnn, qrnn=True, bidir=True))}
each, each_reader = pytest.mark.parametrize('name', FAMILY), pytest.mark.parametrize('name', {**FAMILY, **TWO_WAYS})
V = 40

def lm_of(name, seed=0, **kw):
    torch.manual_seed(seed)
    arch, config = FAMILY[name]
    return get_language_model(arch, V, config, **kw)

def clas_of(name, seed=0, config=None, **kw):
    "A classifier whose batch norm has statistics of its own"
    torch.manual_seed(seed)
    arch, tiny = {**FAMILY, **TWO_WAYS}[name]
    model = get_text_classifier(arch, V, 3, **{'bptt': 7, **kw}, config={**tiny, **(config or {})})
    for b in model[1].layers:
        if isinstance(b, nn.BatchNorm1d): b.running_mean.uniform_(-.1, .1), b.running_var.uniform_(.5, 2)
    return model.eval().requires_grad_(False)

def docs_of(lens, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return [torch.randint(2, V, (n,), generator=gen) for n in lens]

def rows(docs, left=True, extra=0):
    sl = max(map(len, docs))+extra
    return torch.stack([F.pad(d, (sl-len(d), 0) if left else (0, sl-len(d)), value=1) for d in docs])

def close(a, b, eps=1e-5): torch.testing.assert_close(a, b, atol=eps, rtol=0)

# ---- sizes and configurations (sections 1.9 to 1.11 of fastai's own tables)

def n_params(m): return sum(p.numel() for p in {*m.parameters()})

@pytest.mark.parametrize('arch,lm,clas', [(AWD_LSTM, 20_674_280, 20_735_932), (Transformer, 86_215_680, 86_335_740), (TransformerXL, 31_211_620, 31_274_832)])
def test_parameter_counts(arch, lm, clas):
    "The sizes of fastai's models with their default configurations and a vocabulary of 1,000 words"
    with torch.device('meta'): assert n_params(get_language_model(arch, 1000, dict(init=None)))==lm and n_params(get_text_classifier(arch, 1000, 2, config=dict(init=None)))==clas

def test_parameter_counts_of_the_others():
    "A vocabulary of 60,000 words; QRNN: window 2 in the first layer, three gates a layer; GRU: three gates and two biases a layer"
    with torch.device('meta'):
        assert n_params(get_language_model(AWD_LSTM, 60000))==44_333_280
        sizes = [(2*400, 1152), (1152, 1152), (1152, 400)]
        assert n_params(get_language_model(AWD_LSTM, 1000, awd_qrnn_lm_config))==1000*401 + sum(3*o*(i+1) for i, o in sizes)
        assert n_params(get_language_model(SimpleGRU, 1000))==1000*129 + sum(3*o*(i+o+2) for i, o in ((128, 256), (256, 128)))

@pytest.mark.parametrize('arch,sizes,both,lm,clas', [
    (AWD_LSTM, dict(emb_sz=400, n_hid=1152, n_layers=3), dict(pad_token=1, qrnn=False, bidir=False),
        dict(output_p=.1, hidden_p=.15, input_p=.25, embed_p=.02, weight_p=.2, tie_weights=True, out_bias=True), dict(output_p=.4, hidden_p=.3, input_p=.4, embed_p=.05, weight_p=.5)),
    (Transformer, dict(ctx_len=512, n_layers=12, n_heads=12, d_model=768, d_head=64, d_inner=3072),
        dict(resid_p=.1, attn_p=.1, ff_p=.1, embed_p=.1, output_p=0., bias=True, scale=True, double_drop=False, act='GeLU', init='init_transformer'),
        dict(tie_weights=True, out_bias=False, mask=True), dict(mask=False)),
    (TransformerXL, dict(ctx_len=150, n_layers=12, n_heads=10, d_model=410, d_head=41, d_inner=2100),
        dict(resid_p=.1, attn_p=.1, ff_p=.1, embed_p=.1, output_p=.1, bias=False, scale=True, double_drop=True, act='ReLU', init='init_transformer', mem_len=150),
        dict(tie_weights=True, out_bias=True, mask=True), dict(mask=False))])
def test_configs_are_those_of_fastai(arch, sizes, both, lm, clas):
    "Every entry of the default configurations, and no other"
    def plain(c): return {k: getattr(v, 'name', getattr(v, '__name__', v)) for k, v in c.items()}
    meta = model_meta(arch)
    assert plain(meta['config_lm'])=={**sizes, **both, **lm} and plain(meta['config_clas'])=={**sizes, **both, **clas}

@pytest.mark.parametrize('prefix,arch', [('awd_lstm', AWD_LSTM), ('awd_qrnn', AWD_LSTM), ('tfmer', Transformer), ('tfmerXL', TransformerXL)])
def test_small_configs(prefix, arch):
    "One naming scheme; small configurations have the entries of the large ones, and models of a like size: 0.25 to 0.7 million weights without the words"
    for task, make in (('lm', lambda c: get_language_model(arch, V, c)), ('clas', lambda c: get_text_classifier(arch, V, 2, config=c))):
        small, full = getattr(models, f'{prefix}_small_{task}_config'), getattr(models, f'{prefix}_{task}_config')
        assert set(small)==set(full)
        model = make(small)
        enc = model[0] if task=='lm' else model[0].module
        assert 2.5e5<n_params(enc)-enc.encoder.weight.numel()<7e5

def dropouts(m): return {f'{n}.{k}': v for n, o in m.named_modules() for k, v in vars(o).items() if k in ('p', 'weight_p', 'embed_p', 'attn_p', 'zoneout', 'drop_p') and isinstance(v, (int, float))}

@each
def test_dropouts_scale_with_drop_mult(name):
    "`drop_mult` scales every dropout of the configuration in both kinds of models; the head's own `ps` stay; configurations are left alone"
    full, half = (dropouts(lm_of(name, drop_mult=m)) for m in (1., .5))
    assert full.keys()==half.keys() and len(full)>2 and any(full.values())
    for k in full: assert half[k]==pytest.approx(full[k]/2), k
    arch, config = FAMILY[name]
    full, none = (dropouts(get_text_classifier(arch, V, 2, config=config, drop_mult=m)) for m in (1., 0.))
    left = [v for v in none.values() if v]
    assert left==[.1] and sum(v>0 for v in full.values())>len(left)

@each
def test_bad_configs(name):
    "Misspelt entries are named with the nearest one, entries of language models are told from those of classifiers"
    arch, config = FAMILY[name]
    k = [k for k in config if k.startswith('n_')][0]
    with pytest.raises(ValueError, match=f"no configuration entry '{k}x'. Did you mean '{k}'"): get_language_model(arch, V, {f'{k}x': 2})
    with pytest.raises(ValueError, match="'tie_weights' is an entry of the configuration of language models"): get_text_classifier(arch, V, 2, config=dict(config, tie_weights=True))
    with pytest.raises(ValueError, match=f'Did you mean {arch.__name__!r}'): get_language_model(arch.__name__.lower()+'s', V)
    with pytest.raises(TypeError, match='config must be a dict'): get_language_model(arch, V, ['small'])
    with pytest.raises(ValueError, match='would be'): get_language_model(arch, V, config, drop_mult=60)
    assert type(get_language_model(arch.__name__, V, config)[0]) is arch

# ---- layer groups (check 22)

@each
def test_layer_groups(name):
    "Check 22: every parameter is in exactly one group of both kinds of models, words come last in a language model and first in a classifier"
    arch, config = FAMILY[name]
    meta = model_meta(arch)
    for model, split in ((lm_of(name), meta['split_lm']), (clas_of(name), meta['split_clas'])):
        groups = Learner(None_data(), model, silent=True).split(split).layer_groups
        ids = [{id(p) for p in g.parameters()} for g in groups]
        assert sum(map(len, ids))==len(set.union(*ids)) and set.union(*ids)=={id(p) for p in model.parameters()}
        enc = model[0] if split is meta['split_lm'] else model[0].module
        assert id(enc.encoder.weight) in ids[-1 if split is meta['split_lm'] else 0]

class None_data: train_dl = valid_dl = device = path = loss_func = None

@pytest.mark.parametrize('arch', [AWD_LSTM, Transformer, TransformerXL])
def test_layer_groups_of_full_models(arch):
    "Check 22: 4 groups of a language model, 5 of a classifier"
    meta = model_meta(arch)
    with torch.device('meta'): assert [len(meta['split_lm'](get_language_model(arch, 9, dict(init=None)))), len(meta['split_clas'](get_text_classifier(arch, 9, 2, config=dict(init=None))))]==[4, 5]

# ---- law 3: a document's result depends on the document alone (checks 17 to 19)

CLAS = {}
def cached(name, **kw):
    key = name, *kw.items()
    if key not in CLAS: CLAS[key] = clas_of(name, **kw)
    return CLAS[key]

@each_reader
@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_document_alone(name, data):
    "Check 17: any lengths, any order, padding on either side, any window: the scores of a document are those it gets alone"
    lens = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=6))
    bptt, left, extra = data.draw(st.sampled_from([1, 3, 7, 20, 100])), data.draw(st.booleans()), data.draw(st.integers(0, 40))
    docs, whole = docs_of(lens, sum(lens)), cached(name, bptt=100)
    got = cached(name, bptt=bptt)(rows(docs, left, extra))[0]
    close(got, torch.cat([whole(d[None])[0] for d in docs]), 2e-6)

@each_reader
def test_no_neighbours(name):
    "Check 17: A4's case (lengths 11, 6, 5 and windows of 3), 500 pads, and the same text twice in a batch"
    model, docs = clas_of(name, bptt=3), docs_of([11, 6, 5, 1])
    alone = torch.cat([model(d[None])[0] for d in docs])
    for extra in (0, 1, 500): close(model(rows(docs, extra=extra))[0], alone, 2e-6)
    close(model(rows([docs[0]]*3+docs[1:]))[0][1:3], alone[:1].expand(2, -1), 2e-6)

@each_reader
def test_max_len(name):
    "Check 18: exactly the last `max_len` words are pooled; less than a window is fine, and more than the text changes nothing"
    whole = clas_of(name, max_len=None)[0]
    for max_len in (5, 20):
        reader = clas_of(name, max_len=max_len)[0]
        for n in (max_len-1, max_len, max_len+1, 3*max_len+2):
            doc = docs_of([n], n)[0][None]
            out, mask = reader(doc)[1:]
            assert (~mask).sum()==min(n, max_len)
            close(out[-1], whole(doc)[1][-1][:, -max_len:])

@each_reader
def test_empty_and_short(name):
    "Check 19: nothing but padding and single words give numbers, in evaluation and in training"
    model = clas_of(name)
    x = rows([*docs_of([1, 4, 1])], extra=2)
    x[1] = 1
    assert model(x)[0].isfinite().all() and model(torch.ones(2, 0).long())[0].isfinite().all()
    model.train().requires_grad_(True)(x)[0].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

@each_reader
def test_gradients_of_a_document(name):
    "Law 3 in training: without dropout, the gradient of a document's score does not depend on its neighbours"
    model = clas_of(name, drop_mult=0.).requires_grad_(True)
    docs = docs_of([9, 30, 17])
    def grads(x, i): return torch.autograd.grad(model(x)[0][i].sum(), [p for p in model[0].parameters()], allow_unused=True)
    for a, b in zip(grads(rows(docs), 0), grads(docs[0][None], 0)):
        if a is not None: close(a, b)

# ---- reading on from a state (checks 10 and 20, law 4)

@each
@settings(max_examples=10, deadline=None)
@given(st.data())
def test_in_pieces(name, data):
    "Check 10: a text in pieces of any length, the state handed on, gives what it gives in one piece"
    cuts = data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=4).filter(lambda o: sum(o)<=30))
    model, x = cached_lm(name), docs_of([sum(cuts)]*2, sum(cuts))
    x, state, outs = torch.stack(x), None, []
    for piece in x.split(cuts, 1):
        out, state = model.step(piece, state)
        outs.append(out)
    close(torch.cat(outs, 1), model.step(x)[0])

LMS = {}
def cached_lm(name):
    if name not in LMS: LMS[name] = lm_of(name).eval().requires_grad_(False)
    return LMS[name]

@each
def test_causal(name):
    "Check 20: another word at place t changes no score before t, and does change those from t on"
    model, x = cached_lm(name), torch.stack(docs_of([20, 20]))
    y = x.clone()
    y[:, 9] = (y[:, 9]+1)%(V-2)+2
    a, b = model.step(x)[0], model.step(y)[0]
    close(a[:, :9], b[:, :9], 1e-6)
    assert all((a[:, t]!=b[:, t]).any() for t in range(9, 20))

@each
def test_states_are_rows(name):
    "Law 4: states can be counted, picked (twice the same row, too) and cut off; what was given is not changed"
    model = cached_lm(name)
    enc, x, more = model[0], torch.stack(docs_of([9]*3)), torch.stack(docs_of([4]*3, 1))
    state = model.step(x)[1]
    assert enc.state_bs(state)==3
    want = model.step(more, state)[0]
    idxs = torch.tensor([2, 0, 2])
    picked = enc.detach_state(enc.select_state(state, idxs))
    close(model.step(more[idxs], picked)[0], want[idxs])
    close(model.step(more[:2], enc.select_state(state, slice(0, 2)))[0], want[:2])
    close(model.step(more, state)[0], want)

@each
def test_from_embeddings(name):
    "An encoder reads the vectors of the words as it reads the words"
    enc, x = cached_lm(name)[0], torch.stack(docs_of([9]*2))
    close(enc(enc.encoder(x), None, from_embeddings=True)[1][-1], enc(x)[1][-1], 1e-6)

@each
def test_window_is_kept(name):
    "A language model keeps the state between training windows, unless its windows begin afresh; another batch size begins afresh, too"
    model, x = cached_lm(name), torch.stack(docs_of([12]*2))
    model.reset()
    a, b, c = model(x)[0], model(x)[0], model(x[:1])[0]
    same = torch.allclose(a, b)
    assert same==(not getattr(model[0], 'stream_state', True))
    close(c, a[:1])
    model.reset()

# ---- training (checks 12 and 13)

@each
def test_dropout_is_on_in_training_only(name):
    "Check 12: with dropouts two passes differ in training and are the same in evaluation; without, training computes what evaluation does"
    x = torch.stack(docs_of([9]*4))
    model, dry = lm_of(name, drop_mult=3), lm_of(name, drop_mult=0.)
    def scores(m): return m.step(x)[0]
    assert (scores(model.train())!=scores(model)).any() and torch.equal(scores(model.eval()), scores(model))
    close(scores(dry.train()), scores(dry.eval()), 1e-6)

@each
def test_regularisers(name):
    "Check 13: AR and TAR have a value and a gradient for every architecture, for one row and for one step"
    for bs, sl in ((3, 7), (1, 7), (3, 1)):
        model = lm_of(name).train()
        _, raws, outs = model(torch.stack(docs_of([sl]*bs)))
        assert raws[-1].shape==outs[-1].shape==(bs, sl, 12) and raws[-1].requires_grad
        tar = (raws[-1][:, 1:]-raws[-1][:, :-1]).pow(2).mean() if sl>1 else 0
        (outs[-1].pow(2).mean()+tar).backward()
        assert any(p.grad is not None and p.grad.abs().sum()>0 for p in model[0].parameters())

# ---- learners

WORDS = 'the film was a story of two people in one long night with music'.split()
def reviews(n=72, seed=0):
    "Sentences in which one word decides"
    r, res = np.random.default_rng(seed), []
    for i in range(n):
        w = list(r.choice(WORDS, r.integers(3, 12)))
        w.insert(r.integers(len(w)), r.choice(['great', 'lovely', 'fine'] if i%2 else ['awful', 'dull', 'poor']))
        res.append(dict(label='pos' if i%2 else 'neg', text=' '.join(w)+'.'))
    return pd.DataFrame(res)

DF = reviews()
def bunches(path, backwards=False):
    cols = dict(text_cols='text', label_cols='label', min_freq=1, bs=8, seed=0, backwards=backwards)
    lm = TextLMDataBunch.from_df(path, DF[:56], DF[56:], bptt=10, **cols)
    return lm, TextClasDataBunch.from_df(path, DF[:56], DF[56:], vocab=lm.vocab, **cols)

def learners(name, path, backwards=False):
    "A language model that was trained, and a classifier with its encoder"
    set_seed(0)
    (arch, config), (data_lm, data) = FAMILY[name], bunches(path, backwards)
    lm = language_model_learner(data_lm, arch, config=config, drop_mult=.1, pretrained=False, silent=True)
    lm.fit_one_cycle(3, 1e-2)
    lm.save_encoder('enc')
    clas = text_classifier_learner(data, arch, config=config, drop_mult=.1, pretrained=False, silent=True)
    return lm, clas.load_encoder('enc')

TRAINED = {}
@pytest.fixture(params=FAMILY)
def pair(request, tmp_path_factory):
    "The learners of an architecture, made once"
    if request.param not in TRAINED: TRAINED[request.param] = learners(request.param, tmp_path_factory.mktemp(request.param))
    return TRAINED[request.param]

def test_language_model_learns(pair):
    "Training lowers the loss, and texts that were not trained on are better foretold than by chance"
    lm, _ = pair
    assert lm.recorder.losses[-1]<lm.recorder.losses[0] and lm.validate()[0]<np.log(len(lm.data.vocab))-.05

def test_encoder_travels(pair):
    "Checks 15 and 16: the classifier has the language model's encoder, tensor by tensor, and is frozen but for its head"
    lm, clas = pair
    theirs, ours = lm.model[0].state_dict(), clas.model[0].module.state_dict()
    assert theirs.keys()==ours.keys() and set(clas.load_report.loaded)=={f'0.{k}' for k in ours} and not clas.load_report.missing
    if not clas.epochs_done:
        for k in ours: assert torch.equal(theirs[k], ours[k]), k
        assert [any(p.requires_grad for p in g.parameters()) for g in clas.layer_groups]==[False]*(len(clas.layer_groups)-1)+[True]

def test_other_vocabulary(pair, tmp_path):
    "Check 14: pretrained weights come with their words: known rows move, unknown words get the mean"
    lm, _ = pair
    lm.export(tmp_path/'lm.tnb')
    lm.save(tmp_path/'weights', with_opt=False)
    other = DF.assign(text=DF.text.str.replace('film', 'movie'))
    data = TextLMDataBunch.from_df(tmp_path, other[:56], other[56:], text_cols='text', label_cols='label', min_freq=1, bs=8)
    new = language_model_learner(data, lm.spec['arch'], config=lm.spec['args']['config'], pretrained_fnames=str(tmp_path/'lm.tnb'), silent=True)
    old, w = lm.model[0].encoder.weight, new.model[0].encoder.weight
    assert torch.equal(w[data.vocab.stoi['night']], old[lm.data.vocab.stoi['night']])
    close(w[data.vocab.stoi['movie']], old.mean(0), 1e-6)
    assert not new.load_report.missing and not any(p.requires_grad for p in new.layer_groups[0].parameters())

def test_classifier_trains_and_predicts(pair):
    "A classifier learns; `get_preds` in the order of the data set is `predict`, one by one and in a list (check 24)"
    _, clas = pair
    clas.unfreeze()
    before = clas.validate(clas.data.fix_dl)[0]
    clas.fit_one_cycle(4, 1e-2)
    preds, y = clas.get_preds()
    assert clas.validate(clas.data.fix_dl)[0]<before and len(preds)==16
    texts = DF.text[56:].tolist()
    close(torch.stack([o[2] for o in clas.predict(texts)]), preds)
    close(torch.stack([clas.predict(t)[2] for t in texts[:4]]), preds[:4])
    assert clas.predict('')[2].isfinite().all()

def test_writes(pair):
    "Check 23: temperature 0 is the most probable word, step by step or from the whole text; a seed repeats; no word that is none; beam search is no worse than that"
    lm, _ = pair
    lm.model.eval()
    text, ids = 'the film was', []
    start = lm.data.encode(text).tolist()
    no = [i for i, w in enumerate(lm.data.vocab.itos) if w in ('xxunk', 'xxpad', 'xxbos', 'xxfld', 'xxfake', 'xxeos')]
    def log_probs(i): return lm.model.step(torch.tensor([start+i], device=lm.device))[0][0].log_softmax(-1)
    with torch.no_grad():
        for _ in range(6):
            p = log_probs(ids)[-1]
            p[no] = -torch.inf
            ids.append(p.argmax().item())
        greedy = lm.predict(text, 6, temperature=0, decoder=lambda t: t)
        assert greedy==' '.join([text, *[lm.data.vocab.itos[i] for i in ids]])==lm.beam_search(text, 6, top_k=1, beam_sz=1, decoder=lambda t: t)
        found = [lm.data.vocab.stoi[w] for w in lm.beam_search(text, 6, beam_sz=8, decoder=lambda t: t).split()[3:]]
        def score(i): return log_probs(i)[len(start)-1:-1].gather(1, torch.tensor(i, device=lm.device)[:, None]).sum()
        assert score(found)>=score(ids)-1e-4
    one, two = (lm.predict(text, 30, seed=3, decoder=lambda t: t) for _ in range(2))
    assert one==two and not any(lm.data.vocab.stoi[w] in no for w in one.split()[3:])
    with pytest.warns(UserWarning, match='try a lower value'): lm.predict(text, 1, min_p=.9999)

def test_explained(pair):
    "Intrinsic attention and gradient x input of a classifier: a number for each token, the largest 1, none below 0 where none can speak against a class"
    _, clas = pair
    text = 'the great film was dull.'
    a, g = (attribute(clas, text, method=m) for m in ('intrinsic attention', 'gradient x input'))
    assert len(a.scores)==len(g.scores)==len(clas.data.tokens(text)) and np.isclose(np.abs(a.scaled).max(), 1) and np.isfinite(g.scores).all()
    assert (a.scores>=0).all() and np.abs(g.scores).max()>0

def test_leaves_in_a_file(pair, tmp_path):
    "Export and load: the same predictions and the same text, from nothing but the file"
    lm, clas = pair
    clas.export(tmp_path/'clas.tnb'), lm.export(tmp_path/'lm.tnb')
    again, writer = load_learner(tmp_path, 'clas.tnb'), load_learner(tmp_path, 'lm.tnb')
    texts = DF.text[:9].tolist()
    assert torch.equal(again.predict_texts(texts), clas.predict_texts(texts)) and again.spec==clas.spec
    assert writer.predict('the film', 9, seed=1)==lm.predict('the film', 9, seed=1)

def test_summary(pair):
    "`summary` of both kinds counts what is there, names every module with parameters and the groups, and leaves no trace"
    for learn in pair:
        before, state = torch.get_rng_state(), learn.model.state
        text = repr(learn.summary())
        assert f'{n_params(learn.model):,} parameters' in text and f'{len(learn.layer_groups)} layer groups of' in text
        for n, m in learn.model.named_modules():
            if list(m.parameters(recurse=False)): assert n in text and not m._forward_hooks
        assert torch.equal(torch.get_rng_state(), before) and learn.model.state is state
        assert '(bs, 10, ' in text if learn.data.is_lm else '(bs, 2)' in text

def test_regularisation_by_architecture(tmp_path):
    "Recurrent models begin with fastai's AR and TAR, Transformers with none; who says otherwise gets it"
    def of(name, **kw):
        arch, config = FAMILY[name]
        data_lm, data = bunches(tmp_path)
        for make, d in ((language_model_learner, data_lm), (text_classifier_learner, data)):
            cb = next(c for c in make(d, arch, config=config, pretrained=False, silent=True, **kw).callbacks if isinstance(c, RNNTrainer))
            yield cb.alpha, cb.beta
    for name in FAMILY:
        assert list(of(name))==[(0., 0.) if name.startswith('tfmer') else (2., 1.)]*2
        assert list(of(name, alpha=1.))==[(1., 0.) if name.startswith('tfmer') else (1., 1.)]*2

# ---- both directions

@each
def test_backwards(name, tmp_path):
    "A7 and A11: a backward language model writes to the left, a backward classifier reads from the right; both know what they are in their files"
    lm, clas = learners(name, tmp_path, backwards=True)
    out = lm.predict('long night', 3, temperature=0, decoder=lambda t: t)
    assert out.endswith(' long night') and len(out.split())==5
    ids = torch.tensor([lm.data.encode('long night').tolist()[:0:-1]], device=lm.device)
    lm.model.eval()
    with torch.no_grad(): p = lm.model.step(ids)[0][0, -1]
    p[[i for i, w in enumerate(lm.data.vocab.itos) if w in ('xxunk', 'xxpad', 'xxbos', 'xxfld', 'xxfake', 'xxeos')]] = -torch.inf
    assert out.split()[2]==lm.data.vocab.itos[p.argmax()]
    x = torch.tensor([clas.data.encode(DF.text[60]).tolist()[::-1]], device=clas.device)
    clas.model.eval()
    with torch.no_grad(): close(clas.predict(DF.text[60])[2], clas.model(x)[0][0].softmax(-1).cpu())
    close(clas.get_preds()[0][4], clas.predict(DF.text[60])[2])
    clas.export(tmp_path/'back.tnb')
    assert load_learner(tmp_path, 'back.tnb').data.backwards
    assert len(attribute(clas, DF.text[60]).scores)==len(clas.data.tokens(DF.text[60]))
    forward = text_classifier_learner(bunches(tmp_path)[1], FAMILY[name][0], config=FAMILY[name][1], pretrained=False, silent=True)
    with pytest.warns(UserWarning, match='backwards'): forward.load_encoder('enc')

@pytest.mark.parametrize('name', TWO_WAYS)
def test_two_way_classifier(name, tmp_path):
    "A20: a bidirectional classifier trains, predicts and exports; its last pooled state of the backward half has read one word, and every window border is invisible"
    arch, config = TWO_WAYS[name]
    set_seed(0)
    learn = text_classifier_learner(bunches(tmp_path)[1], arch, config=config, drop_mult=.1, bptt=4, pretrained=False, silent=True)
    before = learn.validate(learn.data.fix_dl)[0]
    learn.fit_one_cycle(3, 1e-2)
    assert learn.validate(learn.data.fix_dl)[0]<before
    learn.export(tmp_path/'two.tnb')
    close(load_learner(tmp_path, 'two.tnb').predict_texts(DF.text[:5]), learn.predict_texts(DF.text[:5]), 1e-6)
    with pytest.raises(ValueError, match='cannot read both ways'): language_model_learner(bunches(tmp_path)[0], arch, config=config, pretrained=False)

# ---- ensembles

@pytest.fixture(scope='module')
def readers(tmp_path_factory):
    "Classifiers of several architectures and both directions, untrained"
    path, res = tmp_path_factory.mktemp('ensemble'), []
    for i, name in enumerate(['awd_lstm', 'tfmer', 'gru']):
        set_seed(i)
        res.append(text_classifier_learner(bunches(path, backwards=i==1)[1], FAMILY[name][0], config=FAMILY[name][1], pretrained=False, silent=True))
        for b in res[-1].model[1].layers:
            if isinstance(b, nn.BatchNorm1d): b.running_mean.uniform_(-.5, .5)
    return res

def test_ensemble_is_a_mean(readers, tmp_path):
    "An ensemble of three architectures: weighted means everywhere, losses and metrics of these, one file, interpretation"
    ens = EnsembleLearner(readers, weights=[2, 1, 1])
    text = DF.text[57]
    want = sum(w*l.predict(text)[2] for w, l in zip([.5, .25, .25], readers))
    close(ens.predict(text)[2], want, 1e-6)
    preds, y, losses = ens.get_preds(with_loss=True)
    close(preds[1], want)
    close(losses, -preds.gather(1, y[:, None])[:, 0].log())
    loss, acc = ens.validate()
    assert loss==pytest.approx(losses.mean().item(), abs=1e-5) and acc==pytest.approx((preds.argmax(1)==y).float().mean().item())
    ens.export(tmp_path/'ens.tnb')
    again = load_learner(tmp_path, 'ens.tnb', test=DF.text[:3].tolist())
    assert torch.equal(again.predict_texts(DF.text[:7]), ens.predict_texts(DF.text[:7])) and [l.data.backwards for l in again.learners]==[False, True, False]
    close(again.get_preds(DatasetType.Test)[0], ens.predict_texts(DF.text[:3]))
    interp = ens.interpret()
    assert interp.confusion_matrix().sum()==16 and len(interp.top_losses(4)[0])==4
    with pytest.raises(NotImplementedError, match='members'): interp.intrinsic_attention(text)

def test_ensemble_of_other_vocabularies(readers, tmp_path):
    "Members may have tokenizers, vocabularies and an order of classes of their own"
    cols = dict(text_cols='text', label_cols='label', min_freq=3, bs=8, classes=['pos', 'neg'])
    data = TextClasDataBunch.from_df(tmp_path, DF[:56], DF[56:], tokenizer=Tokenizer(BaseTokenizer), **cols)
    other = text_classifier_learner(data, 'AWD_LSTM', config=rnn, pretrained=False, silent=True)
    ens = EnsembleLearner([readers[0], other])
    close(ens.predict(DF.text[60])[2], (readers[0].predict(DF.text[60])[2]+other.predict(DF.text[60])[2].flip(0))/2, 1e-6)
    close(ens.get_preds()[0][4], ens.predict(DF.text[60])[2])
    assert torch.equal(ens.get_preds()[1], readers[0].get_preds()[1])
    ens.export(tmp_path/'e.tnb')
    close(load_learner(tmp_path/'e.tnb').predict_texts(DF.text[:5]), ens.predict_texts(DF.text[:5]), 1e-6)

def test_ensembles_of_other_labels(tmp_path):
    "Several labels a text, and numbers: probabilities of each label are averaged, and numbers"
    r = np.random.default_rng(0)
    df = DF.assign(a=r.integers(0, 2, len(DF)), b=r.integers(0, 2, len(DF)), score=r.normal(size=len(DF)))
    def members(label):
        def one(back): return text_classifier_learner(TextClasDataBunch.from_df(tmp_path, df[:56], df[56:], text_cols='text', label_cols=label, min_freq=1, backwards=back), AWD_LSTM, config=rnn,
            pretrained=False, silent=True)
        return one(False), one(True)
    for label in (['a', 'b'], 'score'):
        two = members(label)
        ens = EnsembleLearner(two)
        preds, y, losses = ens.get_preds(with_loss=True)
        close(preds, (two[0].get_preds()[0]+two[1].get_preds()[0])/2, 1e-6)
        assert np.isclose(ens.validate()[0], losses.mean().item(), atol=1e-5)
        want = F.binary_cross_entropy(preds, y, reduction='none').mean(1) if isinstance(label, list) else (preds.flatten()-y.flatten())**2
        close(losses, want)
        ens.predict(df.text[0])
    with pytest.raises(ValueError, match='the same labels'): EnsembleLearner([members('score')[0], members('label')[0]])

def test_bad_ensembles(readers, tmp_path):
    "Members that do not go together are refused by name; damaged files and files of something else, too"
    for bad, err, words in ([[], ValueError, 'at least one'], [readers[0], TypeError, 'a list'], [[readers[0], 'no.tnb'], (FileNotFoundError, OSError), 'no.tnb'], [[object()], TypeError, 'member 0 is object']):
        with pytest.raises(err, match=words): EnsembleLearner(bad)
    with pytest.raises(ValueError, match='2 weights for 3'): EnsembleLearner(readers, weights=[1, 2])
    with pytest.raises(TypeError, match='language model'):
        EnsembleLearner([readers[0], language_model_learner(bunches(tmp_path)[0], AWD_LSTM, config=rnn, pretrained=False, silent=True)])
    other = TextClasDataBunch.from_df(tmp_path, DF[:56].replace('neg', 'bad'), DF[56:].replace('neg', 'bad'), text_cols='text', label_cols='label', min_freq=1)
    with pytest.raises(ValueError, match="lacks 'neg' and it has besides 'bad'"): EnsembleLearner([readers[0], text_classifier_learner(other, AWD_LSTM, config=rnn, pretrained=False)])
    f = EnsembleLearner(readers).export(tmp_path/'e.tnb')
    f.write_bytes(f.read_bytes()[:-200])
    with pytest.raises(ValueError, match='truncated'): load_learner(f)

def test_ensemble_from_the_shell(readers, tmp_path, capsys):
    "`textnb predict` reads the file of an ensemble; `textnb explain` says that one member has to be chosen"
    from textnb.command import main
    f = EnsembleLearner(readers).export(tmp_path/'e.tnb')
    assert main(['predict', str(f), 'a great film'])==0 and 'prediction' in capsys.readouterr().out
    assert main(['explain', str(f), 'a great film'])!=0 and 'explain one of them' in capsys.readouterr().err
