"Explanations of a classifier: attribution, top losses, confusion"
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
matplotlib.use('Agg')
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from textnb.all import *
from textnb.attribute import attribute, class_scores, grad_wrt_words, margin, probability, word_vectors
from textnb.shading import _luminance, shade, shaded_html
from textnb.learner import encoder_of
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
        g = grad_wrt_words(model, z['ids'][0], lambda s: probability(s, k, loss))[0].abs().sum(-1)
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
        with torch.no_grad(): got = class_scores(learn.model.eval(), word_vectors(learn.model, ids)).softmax(-1)
        assert torch.allclose(got[0], learn.predict_ids([ids])[0], atol=1e-5), n

@pytest.mark.parametrize('target', [probability, margin])
def test_finite_differences(learn, target):
    "Check 24: gradients equal differences, in double precision"
    import copy
    model,ids = copy.deepcopy(learn.model).double().eval(),learn.data.encode('the great film was awful')
    g,emb,_ = grad_wrt_words(model, ids, lambda s: target(s.double(), 1, learn.loss_func))
    for i,d in ((0,0),(2,3),(len(ids)-1,5)):
        e = torch.zeros_like(emb)
        e[i,d] = 1e-4
        with torch.no_grad(): hi,lo = (target(class_scores(model, (emb+s*e)[None])[0], 1, learn.loss_func) for s in (1,-1))
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
    g = grad_wrt_words(l.model, a.ids[::-1], lambda s: probability(s, a.target, l.loss_func))[0].abs().sum(-1).flip(0)
    assert np.allclose(a.scores, g, atol=1e-6)
    assert np.allclose(a.probs, class_scores(l.model.eval(), word_vectors(l.model, a.ids[::-1]))[0].softmax(-1).detach(), atol=1e-6)

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
