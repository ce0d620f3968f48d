"Explanations of a classifier: attribution, top losses, confusion"
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
matplotlib.use('Agg')
import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from textnb.all import *
from textnb.base import html_table
from textnb.explain import (attribute, calibrated_joint, class_scores, explained_number, fold_numbers, grad_wrt_words,
    word_vectors, shade, shaded_html)
from textnb.explain.shading import _luminance
from textnb.learn import encoder_of
from test_learner import clas_data, small

GOLD = Path(__file__).parent/'goldens'
texts = ['a great film', 'the film\n\nwas awful', 'one', '', 'dull '*90, '<b>"x"</b> & y', 'unheard-of wordings', '😀 great\n']

@pytest.fixture(scope='module')
def learn(tmp_path_factory):
    set_seed(0)
    l = text_classifier_learner(clas_data(tmp_path_factory.mktemp('c')), AWD_LSTM, config=small, bptt=7, max_len=28, pretrained=False, silent=True)
    with torch.no_grad():
        for p in encoder_of(l.model).parameters(): p.mul_(3)
    return l

@pytest.fixture(scope='module')
def interp(learn): return TextClassificationInterpretation.from_learner(learn)

def test_golden():
    "v1's intrinsic attention, for the prediction and for every class"
    z = np.load(GOLD/'intrinsic_attention.npz')
    model = get_text_classifier(AWD_LSTM, 37, 3, bptt=70, max_len=1400, config=dict(emb_sz=12, n_hid=20, n_layers=3))
    model.load_state_dict({k[2:]:torch.tensor(z[k]) for k in z.files if k.startswith('w/')})
    model.eval()
    loss = CrossEntropyFlat()
    with torch.no_grad(): p = model(torch.tensor(z['ids']))[0].softmax(-1)
    assert np.allclose(p, z['probs'], atol=1e-6)
    for k,name in [(int(p.argmax()),'attn_pred'), *[(k,f'attn_{k}') for k in range(3)]]:
        g = grad_wrt_words(model, z['ids'][0], lambda s: explained_number(s, k, loss, 'prob'))[0].abs().sum(-1)
        assert np.allclose(g/g.max(), z[name], atol=1e-5), name

@pytest.mark.parametrize('text', texts)
@pytest.mark.parametrize('method', ['intrinsic attention','gradient x input'])
def test_scores(learn, text, method):
    "Check 24 and A23: one score for each token, newlines included; the largest is 1; the same twice; ids and tokens belong together"
    a,b = (attribute(learn, text, method) for _ in range(2))
    assert len(a.scores)==len(a.tokens)==len(a.ids)==len(learn.data.encode(text))
    assert np.isfinite(a.scores).all() and np.array_equal(a.scores, b.scores)
    assert abs(np.abs(a.scaled).max()-1)<1e-6 and np.allclose(a.probs, learn.predict(text)[2], atol=1e-6)
    for t,i in zip(a.tokens, a.ids): assert learn.data.vocab.itos[i] in (t,'xxunk')
    if method=='intrinsic attention': assert (a.scores>=0).all()

def test_same_function(learn):
    "The explained function is the one that predicts, at the edges of bptt and max_len and far behind them"
    for n in (1,2,6,7,8,27,28,29,60,200):
        ids = np.arange(n)%(len(learn.data.vocab)-9)+9
        with torch.no_grad(): got = class_scores(learn.model.eval(), word_vectors(learn.model, ids)).softmax(-1).cpu()
        assert torch.allclose(got[0], learn.predict_ids([ids])[0], atol=1e-5), n

@pytest.mark.parametrize('target', ['prob','margin'])
def test_finite_differences(learn, target):
    "Check 24: gradients equal differences, in double precision"
    import copy
    model,ids = copy.deepcopy(learn.model).double().eval(),learn.data.encode('the great film was awful')
    g,emb,_ = grad_wrt_words(model, ids, lambda s: explained_number(s, 1, learn.loss_func, target))
    for i,d in ((0,0),(2,3),(len(ids)-1,5)):
        e = torch.zeros_like(emb)
        e[i,d] = 1e-4
        with torch.no_grad(): hi,lo = (explained_number(class_scores(model, (emb+s*e)[None])[0], 1, learn.loss_func, target) for s in (1,-1))
        assert abs(((hi-lo)/2e-4-g[i,d]).item())<1e-4*max(1, g.abs().max().item())

def test_sure_model(learn):
    "A model that is very sure still has an explanation: no NaN, and the margin keeps its slope"
    import copy
    l = copy.copy(learn)
    l.model = copy.deepcopy(learn.model)
    with torch.no_grad(): [m for m in l.model[1].modules() if isinstance(m, nn.Linear)][-1].weight.mul_(1e4)
    for m in ('intrinsic attention','gradient x input'): assert np.isfinite(attribute(l, 'a great film', m).scaled).all()
    assert np.abs(attribute(l, 'a great film', 'gradient x input').scores).max()>1e-3

def test_no_side_effects(learn):
    "Flags, gradients, requires_grad and global generators stay, after an error as well"
    def state(): return [m.training for m in learn.model.modules()],[p.grad is None for p in learn.model.parameters()],[p.requires_grad for p in learn.model.parameters()],torch.get_rng_state().tolist()
    learn.model.train()
    before = state()
    attribute(learn, 'a great film')
    with pytest.raises(IndexError): attribute(learn, 'a great film', class_id=7)
    with pytest.raises(RuntimeError): grad_wrt_words(learn.model, [2], lambda s: torch.zeros(1))
    assert state()==before

def test_threads_of_modes(learn):
    "Inside no_grad or inference_mode, too"
    want = attribute(learn, 'a great film').scores
    with torch.no_grad(): assert np.array_equal(attribute(learn, 'a great film').scores, want)
    with torch.inference_mode(): assert np.array_equal(attribute(learn, 'a great film').scores, want)

def test_bad_input(learn):
    "What is no text, no class, or no method is named"
    with pytest.raises(TypeError, match='str'): attribute(learn, None)
    with pytest.raises(ValueError, match='gradient x input'): attribute(learn, 'a', method='magic')
    assert np.isfinite(attribute(learn, 'nul \x00 and \ud800').scores).all()

def test_backward(tmp_path):
    "Scores of a backward model stand at the words of the text in reading order"
    l = text_classifier_learner(clas_data(tmp_path, backwards=True), AWD_LSTM, config=small, pretrained=False, silent=True)
    a = attribute(l, 'the great film')
    assert [l.data.vocab.itos[i] for i in a.ids]==a.tokens==['xxbos','the','great','film']
    g = grad_wrt_words(l.model, a.ids[::-1], lambda s: explained_number(s, a.target, l.loss_func, 'prob'))[0].abs().sum(-1).flip(0).cpu()
    assert np.allclose(a.scores, g, atol=1e-6)
    assert np.allclose(a.probs, class_scores(l.model.eval(), word_vectors(l.model, a.ids[::-1]))[0].softmax(-1).detach().cpu(), atol=1e-6)

# ---- colours and HTML

class Spans(HTMLParser):
    def __init__(self): super().__init__(); self.tags,self.text = [],[]
    def handle_starttag(self, tag, attrs): self.tags.append((tag,dict(attrs)))
    def handle_data(self, data): self.text.append(data)

def rgb(s): return [int(s[i:i+2], 16) for i in (1,3,5)]

@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=12), st.floats(-1, 1)), max_size=6))
def test_html_is_escaped(pairs):
    "Whatever the tokens hold, the page has our tags only, one span a token, and black or white text that can be read on it"
    p = Spans()
    p.feed(shaded_html([t for t,_ in pairs], [s for _,s in pairs]))
    assert [t for t,_ in p.tags]==['div']+['span']*len(pairs)
    for _,a in p.tags[1:]:
        style = dict(o.split(':') for o in a['style'].replace(' ','').split(';') if o)
        bg,fg = (_luminance(rgb(style[k])) for k in ('background-color','color'))
        assert (max(bg,fg)+.05)/(min(bg,fg)+.05)>=4.5

def test_script_is_text():
    "A text cannot act"
    s = shaded_html(['<img src=x onerror=alert(1)>', '"quoted\'', '\n', ' '], [1,0,-1,.5])
    assert '<img' not in s and '&lt;img' in s and '⏎' in s and '␣' in s and s.count('underline')==1

@pytest.mark.parametrize('cmap', ['Purples','RdYlGn','viridis','Greys'])
def test_any_cmap(cmap):
    "Any colour map, by name or as an object, with text that can be read"
    for x in np.linspace(0, 1, 11):
        bg,fg = shade(x, cmap)
        a,b = (_luminance(rgb(o)) for o in (bg,fg))
        assert (max(a,b)+.05)/(min(a,b)+.05)>=4.5 and shade(x, matplotlib.colormaps[cmap])==(bg,fg)

# ---- the interpretation

def test_seed_methods(interp):
    "The methods of the seed's page"
    import matplotlib.cm as cm
    text = 'Zombiegeddon was perhaps the GREATEST movie i have ever seen!'
    t,attn = interp.intrinsic_attention(text)
    assert len(attn)==len(interp.data.tokens(text)) and attn.max()==1 and attn.min()>=0 and 'zombiegeddon' in t.text
    assert len(t.data)==len(attn)
    one = interp.intrinsic_attention(text, class_id=1-interp.attribution(text).target)[1]
    assert torch.allclose(one, attn, atol=1e-5)
    assert interp.html_intrinsic_attention(text, cmap=cm.Purples).count('<span')==len(attn)
    interp.show_intrinsic_attention(text, cmap=cm.Purples)

def test_top_losses(interp):
    "Check 24 and A23: rows belong to their texts; the losses are the recomputed ones"
    vals,idxs = interp.top_losses()
    assert (vals.diff()<=0).all() and sorted(idxs.tolist())==list(range(len(interp.preds)))
    small = interp.top_losses(3, largest=False)[0]
    assert torch.allclose(small, vals.flip(0)[:3])
    for row,v,i in zip(interp.top_losses_table(5, None), vals.tolist(), idxs.tolist()):
        cat,k,p = interp.learn.predict(interp.ds.raw_text(i))
        y = int(interp.data.valid_ds.labels[i])
        assert row[0]==interp.ds.text(i) and row[1]==str(cat) and row[2]==interp.data.classes[y]
        assert abs(float(row[3])+np.log(p[y].item()))<.006 and abs(float(row[4])-p[y].item())<.006
    assert len(interp.top_losses_table(2, 3)[0][0].removesuffix(" …").split(' '))==3 and len(interp.top_losses_table(99))==len(interp.preds)

def test_confusion(interp):
    "Counts equal a loop; most_confused lists the mistakes, most first"
    cm,n = interp.confusion_matrix(),len(interp.data.classes)
    want = np.zeros((n,n), int)
    for y,p in zip(interp.y_true.tolist(), interp.pred_class.tolist()): want[y,p] += 1
    assert np.array_equal(cm, want)
    mc = interp.most_confused()
    assert sum(o[2] for o in mc)==cm.sum()-np.trace(cm) and [o[2] for o in mc]==sorted([o[2] for o in mc], reverse=True)
    assert interp.most_confused(min_val=10**6)==[]

def test_plot(interp):
    "The figure holds the numbers"
    from matplotlib import pyplot as plt
    for kw,want in ((dict(), str(interp.confusion_matrix()[0,0])), (dict(normalize=True), None)):
        fig = interp.plot_confusion_matrix(return_fig=True, **kw)
        shown = [t.get_text() for t in fig.axes[0].texts]
        assert len(shown)==4 and (want is None or shown[0]==want)
        plt.close(fig)
    assert interp.plot_confusion_matrix() is None
    plt.close('all')

def test_show(interp, capsys):
    "Tables in a terminal; a text with markup stays text in the HTML"
    interp.show_top_losses(2)
    assert 'Prediction' in capsys.readouterr().out
    assert '<script>' not in html_table(['Text'], [['<script>alert(1)</script>']])

def test_only_classes(learn):
    "Language models and the like are refused with a word"
    from test_learner import lm_data
    lm = language_model_learner(lm_data(learn.path), AWD_LSTM, config=small, pretrained=False, silent=True)
    with pytest.raises(NotImplementedError, match='class'): TextClassificationInterpretation.from_learner(lm)

# ---- labels in doubt

@pytest.mark.parametrize('case', ['two','four'])
def test_label_issues_golden(case):
    "Goal C6: scores, thresholds, joint and candidates equal the numbers of cleanlab 2.9.0"
    z = np.load(GOLD/'label_issues.npz')
    y,p = z[f'{case}/labels'],z[f'{case}/probs']
    joint,found,limits = confident_joint(y, p)
    assert np.array_equal(joint, z[f'{case}/joint']) and np.array_equal(found, z[f'{case}/issues'])
    assert np.allclose(limits, z[f'{case}/thresholds'], atol=1e-12)
    for by in ('self_confidence','normalized_margin'): assert np.allclose(label_quality(y, p, by), z[f'{case}/{by}'], atol=1e-12)
    assert np.abs(calibrated_joint(y, joint)-z[f'{case}/calibrated']).max()<=1
    assert np.allclose(calibrated_joint(y, joint).sum(1), np.bincount(y, minlength=p.shape[1]))

def test_flipped_labels(interp):
    "Goal C6: with 5 % flipped labels the ranking finds at least 3 times as many as chance, and no fewer than a ranking by loss"
    r = np.random.default_rng(0)
    n = 600
    true = r.integers(3, size=n)
    z = r.normal(size=(n, 3))
    z[np.arange(n),true] += 2
    p = np.exp(z)/np.exp(z).sum(1, keepdims=True)
    flip = r.choice(n, n//20, replace=False)
    y = true.copy()
    y[flip] = (y[flip]+r.integers(1, 3, len(flip)))%3
    hits = {by: np.isin(np.argsort(label_quality(y, p, by))[:len(flip)], flip).mean() for by in ('self_confidence','normalized_margin')}
    by_loss = np.isin(np.argsort(np.log(p[np.arange(n),y]))[:len(flip)], flip).mean()
    found = confident_joint(y, p)[1]
    assert min(hits.values())>=3*len(flip)/n and hits['self_confidence']>=by_loss-.02 and np.isin(found, flip).mean()>=3*len(flip)/n

def test_in_sample_refused(learn):
    "Goal C6: probabilities of the training set are refused, with the way to better ones; those of folds are taken"
    for t in (DatasetType.Train, DatasetType.Fix):
        i = learn.interpret(t)
        assert i.in_sample and i.candidates==set()
        with pytest.raises(ValueError, match='out_of_sample_preds'): i.label_issues()
    seen = []
    def train(data):
        seen.append(data)
        return text_classifier_learner(data, AWD_LSTM, config=small, pretrained=False, silent=True)
    p = out_of_sample_preds(train, learn.data, folds=3)
    assert p.shape==(44,2) and torch.allclose(p.sum(1), torch.ones(44), atol=1e-5) and len(seen)==3
    docs = [{d.train_ds.store[i].tobytes() for i in range(len(d.train_ds))} & {d.valid_ds.store[i].tobytes() for i in range(len(d.valid_ds))} for d in seen]
    assert docs==[set()]*3 and sorted(x for d in seen for x in (t.tobytes() for t in d.valid_ds.store))==sorted(t.tobytes() for t in learn.data.train_ds.store)
    res = TextClassificationInterpretation.from_preds(learn, p).label_issues(only_candidates=False)
    assert sorted(res.index)==list(range(44)) and res.quality.is_monotonic_increasing
    assert [learn.data.train_ds.raw_text(i) for i in res.index[:5]]==res.text[:5].tolist()

def test_folds():
    "Equal texts stay together, the classes are spread, every text has one part"
    from textnb.text import TokenStore
    r = np.random.default_rng(0)
    docs = [r.integers(5, size=2) for _ in range(100)]
    store = TokenStore(np.concatenate(docs), np.arange(0, 201, 2))
    y = r.integers(2, size=100)
    part = fold_numbers(store, y, 4)
    for d in {o.tobytes() for o in docs}: assert len({part[i] for i in range(100) if docs[i].tobytes()==d})==1
    assert np.ptp(np.bincount(part, minlength=4))<=20
    for bad in (1,101):
        with pytest.raises(ValueError, match='at least 2'): fold_numbers(store, y, bad)

@pytest.mark.parametrize('bad', [torch.ones(16, 2), torch.full((16,2), float('nan')), torch.tensor([[2.,-1.]]*16), torch.ones(3, 2)/2])
def test_no_probabilities(learn, bad):
    "What is no probability is refused"
    with pytest.raises(ValueError): TextClassificationInterpretation.from_preds(learn, bad, DatasetType.Valid)

# ---- reasons, neighbours, words

def test_facts(interp):
    "Each number of the table, counted again by hand"
    f,itos = interp.facts,interp.data.vocab.itos
    for i in range(len(interp)):
        toks = [itos[t] for t in interp.ds.store[i]]
        words = [t for t in toks if t=='xxunk' or (not t.startswith('xx') and any(c.isalnum() for c in t))]
        assert (f.n_tokens[i],f.n_words[i])==(len(toks),len(words)) and f.unknown[i]==sum(t=='xxunk' for t in words)/max(1, len(words))
        assert abs(f.prob[i]-interp.preds[i][interp.y_true[i]].item())<1e-6 and f.margin[i]>=0
    df = interp.to_frame()
    assert df.loss.is_monotonic_decreasing and [interp.ds.raw_text(i) for i in df.index]==df.text.tolist()
    rows = interp.top_losses_table(3, reasons=True)
    assert [o[5] for o in rows]==df.reason[:3].tolist() and len(interp.top_losses_table(3)[0])==5

def test_reasons(learn):
    "Each reason is given where it holds, and only there"
    p = np.full((16,2), .5, dtype=np.float32)
    i = TextClassificationInterpretation.from_preds(learn, p, DatasetType.Valid, in_sample=True)
    assert all('low margin' in o and 'doubt' not in o for o in i.reasons())
    y = i.y_true.numpy()
    p[np.arange(16),y],p[np.arange(16),1-y] = .05,.95
    i = TextClassificationInterpretation.from_preds(learn, p, DatasetType.Valid, in_sample=True)
    assert all(o.startswith('confident and wrong (0.95') and 'margin' not in o for o in i.reasons())
    assert all('wrong;' in o+';' and 'confident' not in o for o in i.reasons(sure=.99))
    assert ['short' in o for o in i.reasons(short=6)]==(i.facts.n_words<=6).tolist()
    i = TextClassificationInterpretation.from_preds(learn, 1-p, DatasetType.Valid, in_sample=True)
    assert {o for o in i.reasons(short=0, unknown=2, same=1.01)}<={''}|{o for o in i.reasons(short=0, unknown=2) if 'only the last' in o}

def test_near_duplicates(tmp_path):
    "Planted near-duplicates with another label are found among thousands of words, and nothing else is taken for one"
    r = np.random.default_rng(0)
    ws = np.array([f'w{i}' for i in range(2000)])
    texts = [' '.join(r.choice(ws, 30, replace=False)) for _ in range(300)]
    for i in range(10): texts[200+i] = texts[i].replace(' ', ', ', 2)+' extra'
    y = ['a']*200+['b']*100
    df = pd.DataFrame(dict(label=y, text=texts))
    data = TextClasDataBunch.from_df(tmp_path, df[:200], df[200:], text_cols='text', label_cols='label', classes=['a','b'], min_freq=1)
    l = text_classifier_learner(data, AWD_LSTM, config=small, pretrained=False, silent=True)
    i = TextClassificationInterpretation.from_preds(l, np.full((100,2), .5), DatasetType.Valid)
    found = i.near_duplicates()
    assert {k:v[:3] for k,v in found.items()}=={k:(True,k,0) for k in range(10)} and all(v[3]>=.8 for v in found.values())
    assert 'near-duplicate of training text 3, which is a' in i.reasons([3])[0]

def test_nearest(learn, interp):
    "Goal C3: neighbours equal brute force, in slices of any size; the vectors are made once, in a file, and again when the weights have changed"
    from textnb.explain import nearest_rows, text_vectors
    tr = interp.data.train_ds
    v = np.concatenate([text_vectors(learn, [tr.store[i]]) for i in range(len(tr))])
    assert np.allclose(interp.train_vectors(), v, atol=1e-5) and isinstance(interp.train_vectors(), np.memmap)
    assert interp.train_vectors() is interp.train_vectors()
    for text in ('a great film', '', 'dull '*60):
        q = text_vectors(learn, [learn.data.encode(text)])[0]
        got = interp.nearest(text, 7)
        assert np.allclose(got.similarity, np.sort(v@q)[::-1][:7], atol=1e-5) and np.allclose((v@q)[got.index], got.similarity, atol=1e-5)
        for block in (1,3,1000): assert nearest_rows(v, q, 7, block=block)[0].tolist()==nearest_rows(v, q, 7)[0].tolist()
    assert 5 not in learn.interpret(DatasetType.Fix).nearest(5, 40).index
    old = interp.train_vectors()
    with torch.no_grad(): encoder_of(learn.model).encoder.weight.mul_(1.)
    assert interp.train_vectors() is not old

def test_memory(interp):
    "The interpretation holds numbers for each text, and no texts"
    interp.to_frame(3), interp.reasons(), interp.nearest('a film')
    held = [o for o in vars(interp).values() if isinstance(o, (list,tuple,dict)) and len(o)>=len(interp)]
    assert held==[] and not any(str(t)=='str' and len(interp.facts)>0 for t in interp.facts.dtypes)

def test_words_by_class(interp):
    "Goal C9: means and counts equal a groupby over all scores; a word that decides comes first"
    got = interp.word_summary(min_count=1)
    rows = []
    for i in range(len(interp)):
        a = attribute(interp.learn, interp.ds.raw_text(i), 'gradient x input', int(interp.pred_class[i])).words()
        rows += [(a.target_name, t.casefold(), s, i) for t,s,sp in zip(a.tokens, a.scores, a.spans) if sp and any(c.isalnum() for c in t)]
    want = pd.DataFrame(rows, columns=['class','word','score','row']).groupby(['class','word']).agg(mean=('score','mean'), count=('score','size'), texts=('row','nunique'))
    assert len(got)==len(want)
    for o in got.itertuples():
        w = want.loc[o[1], o.word]
        assert abs(o.mean-w['mean'])<1e-6 and (o.count,o.texts)==(w['count'],w['texts'])
        assert 1<=len(o.examples)<=3 and all(o.word in interp.ds.raw_text(i).lower() for i in o.examples)
    one = interp.word_summary(as_class='pos', n_texts=5)
    assert set(one['class'])<={'pos'} and one.equals(interp.word_summary(as_class=1, n_texts=5))

def test_figure_is_current(interp, tmp_path):
    "The confusion matrix is pyplot's current figure, so that `plt.savefig` saves it"
    from matplotlib import pyplot as plt
    interp.plot_confusion_matrix(title='seen')
    assert plt.gca().get_title()=='seen'
    plt.savefig(tmp_path/'a.png')
    assert (plt.imread(tmp_path/'a.png')[...,:3].std()>.05)
    fig = interp.plot_confusion_matrix(return_fig=True)
    assert plt.gcf() is fig and len(fig.axes)==1
    plt.close('all')
