"What a learner shows, what its exported file shows, and what its loss means agree, for every loss and every kind of label"
import warnings
from functools import partial

import numpy as np, pandas as pd, pytest, torch, torch.nn.functional as F
from torch import nn

from textnb.explain import attribute
from textnb.learn import EnsembleLearner, load_learner, text_classifier_learner, language_model_learner
from textnb.models import AWD_LSTM
from textnb.text import TextClasDataBunch, TextLMDataBunch
from textnb.train import BCEWithLogitsFlat, CrossEntropyFlat, FlatLoss, MSELossFlat

words = 'good bad fine poor film plot cast scene'.split()

def table(n=36):
    g = np.random.default_rng(0)
    rows = [' '.join(g.choice(words, 5)) for _ in range(n)]
    df = pd.DataFrame(dict(text=rows))
    df['one'] = [('a','b','c')[len(set(r.split()))%3] for r in rows]
    df['two'] = ['yes' if 'good' in r else 'no' for r in rows]
    df['many'] = [';'.join(w for w in ('good','bad','fine') if w in r) for r in rows]
    df['stars'] = [float(r.count('good')-r.count('bad')) for r in rows]
    df['share'] = [r.split().count('good')/5 for r in rows]
    df['count'] = [float(r.split().count('film')) for r in rows]
    df['x'],df['y'] = df.stars,df.share
    return df

df = table()
how = dict(one=dict(label_cols='one'), two=dict(label_cols='two'), many=dict(label_cols='many', label_delim=';'),
    stars=dict(label_cols='stars'), share=dict(label_cols='share'), count=dict(label_cols='count'))

@pytest.fixture(scope='module')
def bunches(tmp_path_factory):
    path = tmp_path_factory.mktemp('bunches')
    made = {k:TextClasDataBunch.from_df(path, df[10:], df[:10], text_cols='text', bs=8, min_freq=1, **kw) for k,kw in how.items()}
    assert [made[k].train_ds.y.kind for k in how]==['category','category','multi','float','float','float']
    return made

def learner(data, loss=None, n=1, **kw):
    torch.manual_seed(0)
    config = dict(emb_sz=8, n_hid=8, n_layers=1)
    l = text_classifier_learner(data, AWD_LSTM, config=config, pretrained=False, silent=True, loss_func=loss, **kw)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if n: l.fit(n, 2e-2)
    return l

class Plain(nn.Module):
    "A module without `reduction`"
    def forward(self, pred, targ): return (F.cross_entropy(pred, targ, reduction='none')*(1+targ)).mean()

class Focal(FlatLoss):
    "A flat loss that says nothing of its activation"
    def flat(self, pred, targ, reduction):
        ce = F.cross_entropy(pred, targ, reduction='none')
        res = (1-(-ce).exp())**2*ce
        return res if reduction=='none' else res.mean()

class Derived(nn.CrossEntropyLoss): "Known by what it is derived from"

def own_ce(pred, targ): return -pred.log_softmax(-1).gather(1, targ[:,None]).mean()

softmax = lambda x: x.double().softmax(-1).float()
sigmoid = lambda x: x.double().sigmoid().float()
same = lambda x: x
losses = {
    'one': [(None,softmax), (nn.CrossEntropyLoss(),softmax), (nn.CrossEntropyLoss,softmax), (Derived(),softmax), (CrossEntropyFlat(),softmax),
        (F.cross_entropy,softmax), (partial(F.cross_entropy, label_smoothing=.1),softmax), (nn.CrossEntropyLoss(weight=torch.tensor([1.,2.,3.])),softmax),
        (partial(F.cross_entropy, reduction='sum'),softmax), (nn.CrossEntropyLoss(reduction='none'),softmax), (partial(CrossEntropyFlat(), reduction='sum'),softmax),
        (CrossEntropyFlat(weight=[1.,2.,3.], label_smoothing=.2),softmax), (nn.NLLLoss(),softmax), (nn.MultiMarginLoss(),softmax), (Plain(),softmax),
        (Focal(),softmax), (own_ce,softmax), (lambda p,t: F.nll_loss(p.log_softmax(-1), t),softmax)],
    'two': [(None,softmax), (partial(F.cross_entropy, weight=torch.tensor([1.,9.])),softmax), (own_ce,softmax)],
    'many': [(None,sigmoid), (nn.BCEWithLogitsLoss(),sigmoid), (partial(F.binary_cross_entropy_with_logits, pos_weight=torch.full((3,), 9.)),sigmoid),
        (BCEWithLogitsFlat(pos_weight=[9.,9.,9.]),sigmoid), (nn.BCEWithLogitsLoss(reduction='sum'),sigmoid), (nn.MultiLabelSoftMarginLoss(),sigmoid),
        (lambda p,t: F.binary_cross_entropy(p.sigmoid(), t),sigmoid), (nn.MSELoss(),lambda x: x.clamp(0,1))],
    'stars': [(None,same), (nn.MSELoss(),same), (F.l1_loss,same), (nn.SmoothL1Loss(),same), (partial(F.huber_loss, delta=.5),same), (MSELossFlat(),same),
        (nn.L1Loss(reduction='none'),same), (lambda p,t: (p-t).abs().mean(),same)],
    'share': [(nn.BCEWithLogitsLoss(),sigmoid), (BCEWithLogitsFlat(),sigmoid), (F.mse_loss,same)],
    'count': [(nn.PoissonNLLLoss(),torch.exp), (partial(F.poisson_nll_loss, log_input=False),same)]}
cases = [pytest.param(kind, loss, want, id=f'{kind}-{i}') for kind,rows in losses.items() for i,(loss,want) in enumerate(rows)]

def scores_of(l, texts):
    "Scores of the model, by hand: one text after the other"
    l.model.eval()
    with torch.no_grad(): return torch.cat([l.model(l.data.one_item(t)[0])[0] for t in texts])

@pytest.mark.parametrize('kind,loss,want', cases)
def test_live_exported_and_by_hand(bunches, tmp_path, kind, loss, want):
    l = learner(bunches[kind], loss, n=0 if kind=='count' and want is same else 1) # the logarithm of what a new model says
    texts = list(df.text[:10])
    by_hand = want(scores_of(l, texts))
    live = l.predict_texts(texts)
    preds,y,each = l.get_preds(with_loss=True)
    far = load_learner(l.export(tmp_path/'a.tnb'))
    assert torch.allclose(live, by_hand, atol=1e-5) and torch.allclose(preds, by_hand, atol=1e-5)
    assert torch.allclose(far.predict_texts(texts), by_hand, atol=1e-5)
    assert [str(o[0]) for o in l.predict(texts)]==[str(o[0]) for o in far.predict(texts)]
    if kind in ('one','two'): assert torch.allclose(live.sum(1), torch.ones(10), atol=1e-5) and [o[1].item() for o in l.predict(texts)]==by_hand.argmax(1).tolist()
    if kind=='many': assert (live>=0).all() and (live<=1).all() and all(torch.equal(o[1], (p>=.5).float()) for o,p in zip(l.predict(texts), by_hand))
    assert each.shape==(10,) and torch.isfinite(each).all()
    a = attribute(l, texts[0], 'gradient x input', target='prob')
    assert a.value==pytest.approx(float(by_hand[0,a.target]), abs=1e-5) and a.prob==pytest.approx(a.value, abs=1e-5)
    if kind in ('one','two'): assert torch.allclose(l.interpret().preds, by_hand, atol=1e-5)

@pytest.mark.parametrize('kind,loss,want', cases)
def test_losses_of_items(bunches, kind, loss, want):
    "The loss of each item is the loss of a batch that holds it alone, weights of classes apart"
    l = learner(bunches[kind], loss, n=0)
    each,y = l.get_preds(with_loss=True)[2],l.get_preds()[1]
    assert each.shape==(10,)
    weighted = 'weight' in getattr(loss, 'keywords', {}) or getattr(loss, 'weight', None) is not None
    x = scores_of(l, list(df.text[:10]))
    if weighted: return
    for i in range(10):
        p,t = x[i:i+1],y[i:i+1]
        if kind in ('stars','share','count') and not isinstance(l.loss_func, FlatLoss): p = p[:,0]
        alone = l.loss_func(p, t).mean() if l.loss_func is not None else None
        many = x.shape[1] if getattr(loss, 'reduction', None)=='sum' and kind=='many' else 1
        assert each[i].item()==pytest.approx(alone.item()/many, abs=1e-4)

def test_one_number_is_no_matrix(bunches):
    "(bs, 1) against (bs,) is not broadcast to all pairs: the plain loss learns what the flat one learns"
    a,b = [learner(bunches['stars'], loss, n=3) for loss in (nn.MSELoss(), MSELossFlat())]
    assert a.recorder.raw_losses==pytest.approx(b.recorder.raw_losses, abs=1e-5)

def test_language_model_with_plain_losses(tmp_path):
    data = TextLMDataBunch.from_df(tmp_path, df[8:], df[:8], text_cols='text', bs=4, bptt=5, min_freq=1)
    def lm(loss):
        torch.manual_seed(0)
        l = language_model_learner(data, AWD_LSTM, config=dict(emb_sz=8, n_hid=8, n_layers=1), pretrained=False, silent=True, loss_func=loss)
        l.fit(1, 1e-2)
        return l
    a,*rest = [lm(loss) for loss in (None, nn.CrossEntropyLoss(), F.cross_entropy, partial(F.cross_entropy, reduction='mean'))]
    for l in rest:
        assert l.validate()==pytest.approx(a.validate(), abs=1e-4)
        assert torch.allclose(l.get_preds()[0].sum(-1), torch.ones(()), atol=1e-4)
        assert torch.allclose(l.get_preds(with_loss=True)[2], a.get_preds(with_loss=True)[2], atol=1e-4)

# an activation that is given

class Cooled(CrossEntropyFlat):
    "A loss that brings an activation no file can hold"
    def activation(self, pred): return (pred/2).softmax(-1)

def test_activation_given(bunches, tmp_path):
    "The learner's own wins, then the loss's; a file keeps the name, or wants it again"
    l = learner(bunches['one'], activation='sigmoid')
    x = scores_of(l, list(df.text[:3]))
    assert torch.allclose(l.predict_texts(list(df.text[:3])), sigmoid(x), atol=1e-5) and torch.allclose(l.get_preds()[0][:3], sigmoid(x), atol=1e-5)
    assert torch.allclose(load_learner(l.export(tmp_path/'s.tnb')).predict_texts(list(df.text[:3])), sigmoid(x), atol=1e-5)
    for kw in (dict(loss=Cooled()), dict(activation=lambda x: (x/2).softmax(-1))):
        l = learner(bunches['one'], **kw)
        x = scores_of(l, list(df.text[:3]))
        assert torch.allclose(l.predict_texts(list(df.text[:3])), softmax(x/2), atol=1e-5)
        with pytest.warns(UserWarning, match='activation'): l.export(tmp_path/'c.tnb')
        with pytest.raises(ValueError, match='activation='): load_learner(tmp_path/'c.tnb')
        far = load_learner(tmp_path/'c.tnb', activation=lambda x: (x/2).softmax(-1))
        assert torch.allclose(far.predict_texts(list(df.text[:3])), softmax(x/2), atol=1e-5)
    with pytest.raises(ValueError, match="Did you mean 'softmax'"): learner(bunches['one'], activation='sofmax')

def test_overridden_method(bunches, tmp_path):
    "A learner whose class overrides `activation` shows that everywhere"
    l = learner(bunches['one'])
    l.__class__ = type('Halved', (type(l),), dict(activation=lambda self, out: (out/2).softmax(-1)))
    assert torch.allclose(l.get_preds()[0], l.predict_texts(list(df.text[:10])), atol=1e-5)

def test_threshold_goes_along(bunches, tmp_path):
    "A loss's threshold is the learner's, and the exported file's"
    for loss in (BCEWithLogitsFlat(thresh=.2), partial(BCEWithLogitsFlat(thresh=.2), reduction='mean')):
        l = learner(bunches['many'], loss)
        far = load_learner(l.export(tmp_path/'t.tnb'))
        for o in (l, far):
            assert o.thresh==.2
            for cat,t,p in o.predict(list(df.text[:10])): assert torch.equal(t, (p>=.2).float())
            assert torch.equal(o.predict('good film', thresh=.9)[1], (o.predict('good film')[2]>=.9).float())
    assert learner(bunches['many'], thresh=.7).thresh==.7

def test_decodes_of_a_loss(bunches):
    "A loss of one's own that decides itself does so"
    class Least(nn.CrossEntropyLoss):
        def decodes(self, preds): return preds.argmin(-1)
    l = learner(bunches['one'], Least())
    assert [o[1].item() for o in l.predict(list(df.text[:10]))]==l.predict_texts(list(df.text[:10])).argmin(1).tolist()

def test_ensemble_agrees(bunches, tmp_path):
    a,b = learner(bunches['many'], partial(F.binary_cross_entropy_with_logits, pos_weight=torch.full((3,), 9.))),learner(bunches['many'], n=2)
    e = EnsembleLearner([a,b])
    want = (a.get_preds()[0]+b.get_preds()[0])/2
    assert torch.allclose(e.get_preds()[0], want, atol=1e-5)
    far = load_learner(e.export(tmp_path/'e.tnb'))
    assert torch.allclose(far.predict_texts(list(df.text[:10])), want, atol=1e-5)
    assert e.get_preds(with_loss=True)[2].shape==(10,)

def test_files_of_before(bunches, tmp_path):
    "A file that says nothing of its outputs is read by its labels; one that says nonsense is refused"
    from textnb.base import load_archive, save_archive
    l = learner(bunches['one'])
    a = load_archive(l.export(tmp_path/'a.tnb'))
    old = {k:v for k,v in a.meta.items() if k!='outputs'}
    save_archive(tmp_path/'old.tnb', a.tensors, old)
    assert torch.equal(load_learner(tmp_path/'old.tnb').predict('good')[2], l.predict('good')[2])
    for bad in (dict(activation='__import__'), dict(activation=3), dict(activation='softmax', thresh='x'), dict(activation='softmax', thresh=7)):
        save_archive(tmp_path/'bad.tnb', a.tensors, {**old, 'outputs':bad})
        with pytest.raises(ValueError, match='activation'): load_learner(tmp_path/'bad.tnb')

# losses that do not fit

@pytest.mark.parametrize('kind,loss', [('one', nn.BCEWithLogitsLoss()), ('two', F.binary_cross_entropy_with_logits), ('two', BCEWithLogitsFlat()), ('one', nn.MSELoss()),
    ('two', partial(F.mse_loss, reduction='sum')), ('one', nn.PoissonNLLLoss()), ('many', nn.CrossEntropyLoss()), ('many', CrossEntropyFlat()), ('many', nn.NLLLoss()),
    ('stars', nn.CrossEntropyLoss()), ('stars', partial(F.cross_entropy, label_smoothing=.1)), ('stars', nn.BCEWithLogitsLoss())])
def test_wrong_loss_is_refused(bunches, kind, loss):
    with pytest.raises(ValueError, match='is a loss for .* and these labels are'): learner(bunches[kind], loss, n=0)
    l = learner(bunches[kind], n=0)
    l.loss_func = loss
    with pytest.raises(ValueError, match='is a loss for'): l.fit(1)
    assert l.epochs_done==0

def test_no_loss(bunches):
    with pytest.raises(TypeError, match='loss_func must be'): learner(bunches['one'], 'cross_entropy', n=0)
    with pytest.raises(TypeError, match='a loss returns a tensor'): learner(bunches['one'], lambda p,t: 1.)

def test_regression_says_no_probability(bunches):
    l = learner(bunches['stars'])
    for target in ('prob','log_prob','margin','logit'):
        said = attribute(l, 'good film', 'gradient x input', target=target).caption()
        assert 'probability' not in said and 'margin' not in said
