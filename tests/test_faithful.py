"Faithfulness: the numbers against independent ones, random rankings beside each, models in disorder, planted words"
import copy, itertools, json, re

import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from textnb.all import *
from textnb.explain import *
from test_learner import clas_data, frame, lm_data, small

bins = [.01,.05,.1,.2,.5]

@pytest.fixture(scope='module')
def learn(tmp_path_factory):
    set_seed(0)
    l = text_classifier_learner(clas_data(tmp_path_factory.mktemp('f')), AWD_LSTM, config=dict(emb_sz=20, n_hid=24, n_layers=1), drop_mult=.1, pretrained=False, silent=True)
    l.fit_one_cycle(12, 3e-2)
    return l

text = 'the music was a great story of two people in one long night'

# ---- B1: the numbers

def by_hand(p, f, order, n):
    "The numbers of one ranking, straight from their definitions; `f` gives the probability of a set of tokens"
    def top(b): return set(order[:min(n, max(1, int(-(-b*n//1))))])
    every = set(order)
    comp = sum(p-f(every-top(b)) for b in bins)/5
    suff = sum(p-f(top(b)) for b in bins)/5
    dele = [f(every-set(order[:k])) for k in range(n+1)]
    ins = [f(set(order[:k])) for k in range(n+1)]
    def area(y): return sum((a+b)/2 for a,b in zip(y, y[1:]))/n
    return dict(comp=comp, suff=suff, log_odds=np.log(f(every-top(.2))/p), deletion=area(dele), insertion=area(ins))

@pytest.mark.parametrize('mode', removals)
def test_by_hand(learn, mode):
    "B1: equal to an independent re-implementation that asks the model set by set, to 1e-9"
    a = attribute(learn, text, 'gradient x input')
    ids,places = np.asarray(a.ids),list(removable(learn, a.ids))
    seen = {}
    def f(kept):
        gone = [i for i in places if i not in kept]
        x = ids.copy()
        if mode=='delete': x = np.array([t for i,t in enumerate(ids) if i not in gone])
        else: x[gone] = learn.data.vocab.stoi['xxunk' if mode=='unk' else 'xxpad']
        if x.tobytes() not in seen: seen[x.tobytes()] = float(learn.predict_ids([x])[0][a.target])
        return seen[x.tobytes()]
    want = by_hand(f(set(places)), f, sorted(places, key=lambda i: -a.scores[i]), len(places))
    got = faithfulness(learn, a, mode, n_random=2, points=100)
    for k,v in want.items(): assert got.scores[k].value==pytest.approx(v, abs=2e-6), k
    exact = five_numbers(f(set(places)), *_curves(f, a, places), np.arange(len(places)+1), len(places), grid=np.arange(len(places)+1))
    for k,v in want.items(): assert exact[k]==pytest.approx(v, abs=1e-9), k

def _curves(f, a, places):
    order = sorted(places, key=lambda i: -a.scores[i])
    return np.array([f(set(order[k:])) for k in range(len(order)+1)]), np.array([f(set(order[:k])) for k in range(len(order)+1)])

def test_eraser():
    "B1: the averages of ERASER's own metrics.py on a file in its format, to 1e-9"
    lines = []
    for n,p in ((7,.9),(12,.75),(30,.6)):
        ks = [share(b, n) for b in bins]
        scores = [dict(threshold=b, comprehensiveness_classification_scores=dict(pos=p*np.exp(-k/3)), sufficiency_classification_scores=dict(pos=p*(1-np.exp(-k/2)))) for b,k in zip(bins, ks)]
        lines.append(json.dumps(dict(classification='pos', classification_scores=dict(pos=p), thresholded_scores=scores, n=n)))
    res = []
    for d in map(json.loads, lines):
        without,only = ([s[f'{k}_classification_scores'][d['classification']] for s in d['thresholded_scores']] for k in ('comprehensiveness','sufficiency'))
        counts,first = np.unique([share(b, d['n']) for b in bins], return_index=True)
        res.append(five_numbers(d['classification_scores']['pos'], np.array(without)[first], np.array(only)[first], counts, d['n']))
    assert np.mean([r['comp'] for r in res])==pytest.approx(0.3823227413978667, abs=1e-9)
    assert np.mean([r['suff'] for r in res])==pytest.approx(0.2819765182192281, abs=1e-9)

def test_linear():
    "B1: for a linear model the true ranking has the highest comprehensiveness of all 720 orders of 6 tokens"
    w = np.array([2.,-1.,.5,3.,-.2,.1])
    sig = lambda v: 1/(1+np.exp(-v))
    def numbers(order): return five_numbers(sig(w.sum()), *[np.array([sig(w[list(o)].sum()) for o in os]) for os in ([order[k:] for k in range(7)],[order[:k] for k in range(7)])], np.arange(7), 6)
    true = numbers(tuple(ranked(w, range(6))))
    others = [numbers(o) for o in itertools.permutations(range(6))]
    assert all(o['comp']<=true['comp']+1e-12 and o['suff']>=true['suff']-1e-12 for o in others)

@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12))
@settings(deadline=None)
def test_correlations(a):
    "Rank correlations: 1 with themselves, -1 turned around, 0 with a constant; the same as scipy's"
    stats = pytest.importorskip('scipy.stats')
    b = np.cos(np.arange(len(a))*7.)
    for mine,theirs in ((kendall,stats.kendalltau),(spearman,stats.spearmanr)):
        if len(set(a))>1:
            assert mine(a, a)==pytest.approx(1) and mine(a, -np.array(a))==pytest.approx(-1)
            assert mine(a, b)==pytest.approx(theirs(a, b).statistic, abs=1e-9)
        assert mine(a, [1.]*len(a))==0

def test_tau(learn):
    "B1: Kendall's tau with leaving out one token is 1 for occlusion, whose numbers these are"
    assert tau_loo(learn, attribute(learn, text, 'occlusion', target='prob')).value==pytest.approx(1)
    s = tau_loo(learn, attribute(learn, text, 'gradient norm'))
    assert -1<=s.value<1 and 0<s.spread<1 and 'random .00±' in str(s)

# ---- B2: never a bare number

@pytest.mark.parametrize('method', ['gradient x input','occlusion','intrinsic attention'])
def test_beside_random(learn, method):
    "B2: each number stands beside random rankings with their interval, in text and in HTML; the warning is there"
    f = faithfulness(learn, attribute(learn, text, method), n_random=5)
    assert len(f.chips())==5
    for c in f.chips(): assert re.fullmatch(r'\w+ -?\d*\.\d\d \(random -?\d*\.\d\d±\d*\.\d\d\)', c), c
    page = f._repr_html_()
    assert 'random' in page and '±' in page and CAVEAT.split('\n')[0][:40] in page
    for n in (0,1):
        with pytest.raises(ValueError, match='n_random'): faithfulness(learn, attribute(learn, text, method), n_random=n)

def test_modes(learn):
    "B2: the ways to remove give different numbers, and the record names its own"
    a = attribute(learn, text, 'gradient x input')
    fs = [faithfulness(learn, a, m, points=0) for m in removals]
    assert len({f.scores['log_odds'].value for f in fs})==3 and [f.mode for f in fs]==list(removals)
    with pytest.raises(ValueError, match='delete, unk, pad'): faithfulness(learn, a, 'blur')

def test_random_is_seeded(learn):
    "The same seed gives the same numbers, another seed others; no global random state is used; more rankings, a smaller interval"
    a = attribute(learn, text, 'gradient x input')
    before = torch.get_rng_state(),np.random.get_state()[1].tolist()
    f,g,h = (faithfulness(learn, a, seed=s) for s in (0,0,1))
    assert torch.equal(before[0], torch.get_rng_state()) and before[1]==np.random.get_state()[1].tolist()
    assert repr(f)==repr(g)!=repr(h)
    assert faithfulness(learn, a, n_random=80).scores['comp'].spread<f.scores['comp'].spread

def test_random_ranking_is_like_random(learn):
    "Scores drawn by lot are no better than random in the mean over many draws"
    a,r = attribute(learn, text, 'gradient x input'),np.random.default_rng(0)
    got = []
    for i in range(20):
        b = copy.copy(a)
        b.scores = r.normal(size=len(a.scores))
        got.append(faithfulness(learn, b, points=0, seed=i).scores['comp'])
    diff = np.array([s.value-s.random for s in got])
    assert abs(diff.mean())<3*diff.std()/20**.5

# ---- B3: infidelity, max-sensitivity

def mlp():
    g = torch.Generator().manual_seed(0)
    def r(*n): return torch.randn(*n, generator=g, dtype=torch.double)
    w1,b1,w2 = r(5,4),r(5),r(5)
    f = lambda x: (x@w1.t()+b1).relu()@w2
    def grad(v):
        with torch.enable_grad():
            v = v.clone().requires_grad_()
            return torch.autograd.grad(f(v).sum(), v)[0]
    return f, grad, r(4), r(10,4)*2

def test_infidelity_stored():
    "B3: the numbers that captum 0.9 gave for a small network"
    f,grad,x,d = mlp()
    assert infidelity(f, x, grad(x), d)==pytest.approx(12.948294747546242, abs=1e-5)
    assert max_sensitivity(lambda v: grad(v)*v, x, d*.02)==pytest.approx(0.24347778874999476, abs=1e-5)

def test_infidelity_captum():
    "B3: captum itself, where it is installed"
    metrics = pytest.importorskip('captum.metrics')
    f,grad,x,d = mlp()
    got = metrics.infidelity(f, lambda v: (d[:len(v)], v-d[:len(v)]), x[None], grad(x)[None], n_perturb_samples=10)
    assert infidelity(f, x, grad(x), d)==pytest.approx(got.item(), abs=1e-5)
    first = lambda v: v if torch.is_tensor(v) else v[0]
    got = metrics.sensitivity_max(lambda v: (grad(first(v))*first(v),), x[None], perturb_func=lambda v, r: first(v)+d[:len(first(v))]*.02, n_perturb_samples=10)
    assert max_sensitivity(lambda v: grad(v)*v, x, d*.02)==pytest.approx(got.item(), abs=1e-5)

def test_text_infidelity(learn):
    "B3: sums of scores that fit have a lower infidelity than shuffled ones; a contrast is explained as a contrast"
    for kw in ({}, dict(class_id='pos', contrast='neg')):
        s = text_infidelity(learn, attribute(learn, text, 'shapley', samples=20, **kw))
        assert s.verdict=='better than random' and s.value<s.random/2

# ---- B4: a model in disorder

def rarity(learn, text, class_id=None):
    "An explanation that asks no model"
    a = attribute(learn, text, 'gradient x input', class_id=class_id)
    count = np.bincount(learn.data.train_ds.store.ids, minlength=len(learn.data.vocab.itos))
    a.scores,a.method = -np.log(count[a.ids]+1.),'rarity'
    return a

def test_randomisation(learn):
    "B4: rarity, which asks no model, is flagged with rho = 1; gradient x input of a model in disorder has a mean rho below .3 on 50 texts"
    texts = list(frame(80, seed=5).text[lambda t: t.str.split().str.len()>6][:50])
    before = {k:v.clone() for k,v in learn.model.state_dict().items()}
    bad = randomisation_check(learn, texts[:5], rarity)
    assert bad.flagged and np.allclose(bad.correlations, 1) and 'not model-dependent' in repr(bad)
    good = randomisation_check(learn, texts, 'gradient x input')
    assert not good.flagged and good.rho[-1]<.3 and good.correlations.shape==(len(learn.layer_groups),len(texts))
    assert all(torch.equal(v, before[k]) for k,v in learn.model.state_dict().items())
    assert np.array_equal(good.correlations, randomisation_check(learn, texts, 'gradient x input').correlations)

# ---- B5: planted words

def planted(n=240, n_test=20):
    r = np.random.default_rng(1)
    def reviews(n): return [' '.join(r.permutation([*r.choice('the film was a story of two people in one long night'.split(), r.integers(4, 9)), ['awful','great'][i%2]])) for i in range(n)]
    honest = [(int('great' in t), t) for t in reviews(n)]
    test = [(y,t) for y,t in plant_words(reviews(4*n_test), seed=3) if y!=int('great' in t)][:n_test]
    return [pd.DataFrame(o, columns=['label','text']).assign(label=lambda d: d.label.map(['neg','pos'].__getitem__)) for o in (honest+plant_words(reviews(n), seed=2), test)]

rnn,tfm = dict(emb_sz=24, n_hid=32, n_layers=1),dict(n_layers=2, n_heads=2, d_model=32, d_head=16, d_inner=64)
archs = dict(AWD_LSTM=('AWD_LSTM',rnn,2e-2,4), QRNN=('AWD_LSTM',{**rnn, 'qrnn':True},2e-2,4), GRU=('SimpleGRU',rnn,2e-2,4), Transformer=('Transformer',tfm,1e-2,6), TransformerXL=('TransformerXL',tfm,1e-2,6))

def trained_on_planted(folder, name, seed):
    "A classifier of the architecture `name` that learned reviews with and without planted words, and the texts in which these overrule the text"
    arch,config,lr,epochs = archs[name]
    train,test = planted()
    data = TextClasDataBunch.from_df(folder, train, test, text_cols='text', label_cols='label', bs=24, min_freq=1, seed=seed)
    set_seed(seed)
    learn = text_classifier_learner(data, globals()[arch], config=config, drop_mult=.1, pretrained=False, silent=True)
    learn.fit_one_cycle(epochs, lr)
    return learn,test

@pytest.mark.parametrize('name', archs)
def test_planted(tmp_path, name):
    """B5: where a planted word overrules the text, the best method puts it first in at least 95 % of the texts, for each architecture

    That is asked of each of four trainings. One training alone may leave LRP with a text or two more or less, by the last bits of a processor,
    so what it finds is asked over all four."""
    lrp_found = []
    for seed in range(4):
        learn,test = trained_on_planted(tmp_path, name, seed)
        assert float(learn.validate()[1])>=.9
        methods = [m for m in ('gradient x input','integrated gradients','occlusion','lrp') if m in methods_of(learn)]
        res = {m: found_first([attribute(learn, t, m) for t in test.text]) for m in methods}
        assert max(res.values())>=.95, (seed,res)
        lrp_found += [res['lrp']] if 'lrp' in res else []
    if lrp_found: assert np.mean(lrp_found)>=.95, lrp_found

def test_plant_words():
    "B5: each text has one planted word, that of its label; all words of the text are still there"
    texts = ['a b c','d','e f']*20
    for (y,t),old in zip(plant_words(texts), texts):
        w = t.split()
        assert [o for o in w if o in ('zorgle','quibbet')]==[('zorgle','quibbet')[y]] and [o for o in w if o not in ('zorgle','quibbet')]==old.split()
    assert plant_words(texts)==plant_words(texts)!=plant_words(texts, seed=1)

# ---- B7: honest words

def test_honest_words(learn):
    "B7: the warning stands under each table and points to the lesson; no caption says that something is proved, or because of what"
    fs = [faithfulness(learn, attribute(learn, text, m), n_random=2, points=0) for m in methods_of(learn)]
    assert 'never saw' in CAVEAT and '11_faithful' in CAVEAT
    table = league(learn, [text], ['gradient x input'], n_random=2)
    for page in (fs[0]._repr_html_(), table._repr_html_()): assert 'never saw' in page and '11_faithful' in page
    words = [o for f in fs for o in (f.caption(), repr(f), f._repr_html_())] + [attribute(learn, text, m).caption() for m in methods_of(learn)] + [repr(table), CAVEAT]
    for w in words: assert not re.search(r'\b(prove[sdn]?|proof|because)\b', w, re.I), w

# ---- any record, any learner

def test_pieces(learn):
    "Scores of tokens, words and sentences: removed are the tokens they are about, and never the marks"
    a = attribute(learn, 'The film was GREAT. The music was dull, all of it!', 'gradient x input')
    for o in (a, a.words(), a.sentences(), attribute(learn, a.text, 'occlusion', by='word')):
        ids,ps = pieces(learn, o)
        assert np.array_equal(ids, a.ids) and len(ps)==len(o.scores)
        assert sorted(np.concatenate(ps))==sorted(removable(learn, a.ids))
        assert faithfulness(learn, o, n_random=3).n==sum(len(p)>0 for p in ps)

@pytest.mark.parametrize('backwards', [False,True])
def test_language_model(tmp_path, backwards):
    "A language model's next word is explained, removed and asked again"
    set_seed(0)
    lm = language_model_learner(lm_data(tmp_path, backwards=backwards), AWD_LSTM, config=small, pretrained=False, silent=True)
    a = attribute(lm, 'the film was a great', 'gradient x input')
    f = faithfulness(lm, a, n_random=3)
    assert f.prob==pytest.approx(a.prob, abs=1e-6) and all(np.isfinite(s.value) for s in f.scores.values())

@pytest.mark.parametrize('t', ['','great','great '*3,'<script>alert(1)</script>','zzz qqq','😀'])
def test_odd_texts(learn, t):
    "Empty text, one token, markup, unknown words"
    f = faithfulness(learn, attribute(learn, t, 'gradient x input'), n_random=3)
    assert all(np.isfinite(s.value) for s in f.scores.values()) and '<script>' not in f._repr_html_()
    if not t: assert f.n==0 and f.scores['comp'].value==0

def test_league(learn):
    "Means over texts, the best first, random last; a function is a method, too"
    texts = list(frame(6, seed=9).text)
    l = league(learn, texts, ['gradient x input',lambda learn, t: rarity(learn, t)], n_random=4)
    rows = l.table()
    assert [r[0] for r in rows]==['method',*sorted(l.rows, key=lambda k: -l.rows[k]['comp'].value),'random']
    fs = [faithfulness(learn, attribute(learn, t, 'gradient x input'), n_random=4, points=0, seed=i) for i,t in enumerate(texts)]
    assert l.rows['gradient x input']['comp'].value==pytest.approx(np.mean([f.scores['comp'].value for f in fs]))

def test_plot(learn):
    "The curves are drawn on a light ground, and matplotlib is left as it was"
    import matplotlib
    from matplotlib import pyplot as plt
    before,n = dict(matplotlib.rcParams),len(plt.get_fignums())
    fig = faithfulness(learn, attribute(learn, text, 'gradient x input'), n_random=3).plot(figsize=(4,2))
    assert fig.get_facecolor()[:3]==(1,1,1) and len(fig.axes)==2
    assert dict(matplotlib.rcParams)==before and len(plt.get_fignums())==n+1 and plt.gcf() is fig
    plt.close(fig)

def test_side_effects(learn):
    "Nothing is left behind: flags, gradients, weights"
    learn.model.train()
    before = {k:v.clone() for k,v in learn.model.state_dict().items()}
    faithfulness(learn, attribute(learn, text, 'lrp'), n_random=2)
    assert all(m.training for m in learn.model.modules()) and all(torch.equal(v, before[k]) for k,v in learn.model.state_dict().items())
    learn.model.eval()
