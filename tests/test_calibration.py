"How far probabilities can be trusted: temperatures that are kept, files that are forged, texts that are left out"
import io
import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from textnb.all import *
from textnb.base import ArchiveError, load_archive, save_archive
from textnb.command import main
from textnb.explain import attribute
from textnb.learn import Reliability, brier_score, fit_temperature
from textnb.models import AWD_LSTM
from textnb.text import FloatList, TextList
from textnb.toys import film_classifier, film_reviews, numbers_lm

TEXTS = ['a great film', 'the film was dull', 'music', 'two people in one long night', 'not lovely']

def at_home(learn, folder):
    learn.path = folder
    return learn

@pytest.fixture(scope='module')
def films(tmp_path_factory): return at_home(film_classifier(), tmp_path_factory.mktemp('films'))

@pytest.fixture
def warm(films):
    "The classifier with a temperature of 2.5"
    films.temperature = 2.5
    yield films
    films.temperature = 1.

def several_labels(folder):
    "A classifier of texts with several labels, trained for a moment"
    df = film_reviews(120)
    df['label'] = [f'{l};{"long" if len(t)>50 else "short"}' for l,t in zip(df.label, df.text)]
    data = (TextList.from_df(df, folder, cols='text', processor=None).split_by_idx(list(range(80, 120)))
        .label_from_df('label', label_delim=';').databunch(bs=16))
    learn = text_classifier_learner(data, AWD_LSTM, config=dict(emb_sz=16, n_hid=24, n_layers=1), pretrained=False, silent=True)
    learn.fit_one_cycle(4, 2e-2)
    return learn

# the search

@pytest.mark.parametrize('seed', range(6))
def test_the_search_finds_the_least_loss(seed):
    "Against a fine grid, with any number of classes"
    g = torch.Generator().manual_seed(seed)
    c = 2+seed*3
    z = torch.randn(300, c, generator=g).double()*(1+seed)
    y = torch.multinomial((z/(.5+seed)).softmax(1), 1, generator=g)[:,0]
    grid = torch.logspace(-2, 2, 4001).double()
    losses = torch.stack([torch.nn.functional.cross_entropy(z/t, y) for t in grid])
    t = fit_temperature(z, y)
    assert torch.nn.functional.cross_entropy(z/t, y)<=losses.min()+1e-9

@pytest.mark.parametrize('seed', range(4))
def test_the_search_of_several_labels(seed):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(300, 4, generator=g).double()*(1+seed)
    y = (torch.rand(300, 4, generator=g).double()<(z/2).sigmoid()).double()
    losses = [torch.nn.functional.binary_cross_entropy_with_logits(z/t, y) for t in np.logspace(-2, 2, 2001)]
    assert torch.nn.functional.binary_cross_entropy_with_logits(z/fit_temperature(z, y), y)<=min(losses)+1e-9

@pytest.mark.parametrize('n', [1, 2, 30, 500])
def test_all_right(n):
    "The mean probability of the true class is that of Laplace's rule where all texts are alike"
    for c in 2, 5:
        z = torch.zeros(n, c)
        z[:,1] = 3.
        p = (z/fit_temperature(z, [1]*n)).softmax(1)[0,1]
        assert float(p)==pytest.approx((n+1)/(n+2), abs=1e-3)

def test_odd_scores():
    assert fit_temperature([[0.,0.],[0.,0.]], [0,1])==1
    assert fit_temperature([[5.]], [0])==1  # a single class is always right
    assert 0<fit_temperature([[1.,0.],[1.,0.],[0.,1.]], [0,0,0])<=100
    assert math.isfinite(fit_temperature([[1e30,-1e30],[-1e30,1e30]], [0,0]))
    assert fit_temperature(np.float32([[3,1],[1,3],[3,1]]), np.array([0,1,1]))==pytest.approx(fit_temperature([[3.,1.],[1.,3.],[3.,1.]], [0,1,1]))
    for z,y,said in (([[1.,math.inf]], [0], 'NaN or infinity'), ([1.,2.], [0], 'do not fit'), ([[1.,2.]], [[1.]], 'do not fit')):
        with pytest.raises(ValueError, match=said): fit_temperature(z, y)

@pytest.mark.parametrize('by', ['width', 'mass'])
def test_every_text_is_in_one_bin(by):
    rng = np.random.default_rng(0)
    for p in rng.random(97), np.ones(5), np.zeros(3), np.full(4, .5), np.r_[np.zeros(9), 1.]:
        for n_bins in 1, 2, 7, 200:
            right = rng.random(len(p))<.5
            r = Reliability(p, right, n_bins, by)
            assert sum(o['n'] for o in r.bins)==len(p) and 0<=r.error<=1 and len(r.bins)<=n_bins
            assert all(o['lo']<=o['confidence']<=o['hi']+1e-12 for o in r.bins)
            assert sum(o['n']*o['accuracy'] for o in r.bins)==pytest.approx(right.sum())
    assert Reliability(p, right, 1).error==pytest.approx(abs(Reliability(p, right, 1).gap))

def test_brier_is_that_of_scikit_learn():
    metrics = pytest.importorskip('sklearn.metrics')
    rng = np.random.default_rng(0)
    p, y = rng.random(50), rng.integers(0, 2, 50)
    assert brier_score(np.c_[1-p,p], y)==pytest.approx(2*metrics.brier_score_loss(y, p))

# the learner

def test_live_file_and_hand_agree(warm, tmp_path):
    scores, y = warm.scores_on(DatasetType.Valid)
    hand = (scores/2.5).softmax(1)
    plain = warm.predict_ids([warm.data.encode(t) for t in TEXTS], activ=lambda x: x)
    again = load_learner(warm.export(tmp_path/'e.tnb'))
    assert again.temperature==2.5
    for learn in warm, again:
        assert torch.allclose(learn.predict_texts(TEXTS), (plain/2.5).softmax(1), atol=1e-6)
        assert torch.allclose(torch.stack([o[2] for o in learn.predict(TEXTS)]), (plain/2.5).softmax(1), atol=1e-6)
        assert torch.allclose(learn.predict_with_mc_dropout(TEXTS[0], with_dropout=False)[0][2], (plain/2.5).softmax(1)[0], atol=1e-6)
    preds, _, losses = warm.get_preds(with_loss=True)
    assert torch.allclose(preds, hand, atol=1e-6) and torch.allclose(losses, -hand[range(len(y)),y].log(), atol=1e-5)
    assert warm.validate()[0]==pytest.approx(float(losses.mean()), abs=1e-5)
    assert torch.allclose(warm.pred_batch(), warm.get_preds(ordered=False)[0][:len(warm.pred_batch())], atol=1e-6)
    interp = warm.interpret()
    assert torch.allclose(interp.preds, hand, atol=1e-6) and torch.allclose(interp.losses, losses, atol=1e-6)
    assert not torch.allclose(scores.softmax(1), hand, atol=1e-2)

def test_decisions_stay(films):
    before = [str(o[0]) for o in films.predict(TEXTS)]
    for t in .1, 1, 50:
        films.temperature = t
        assert [str(o[0]) for o in films.predict(TEXTS)]==before
    films.temperature = 1.

def test_attributions_of_the_probability(warm):
    "The number that is explained is the probability that is said; the logarithm is its logarithm"
    p = float(warm.predict(TEXTS[0])[2].max())
    assert attribute(warm, TEXTS[0], target='prob').value==pytest.approx(p, abs=1e-5)
    assert attribute(warm, TEXTS[0], target='log_prob').value==pytest.approx(math.log(p), abs=1e-5)
    assert attribute(warm, TEXTS[0]).probs.max()==pytest.approx(p, abs=1e-5)
    margin = attribute(warm, TEXTS[0], target='margin').value
    warm.temperature = 1.
    assert attribute(warm, TEXTS[0], target='margin').value==pytest.approx(margin)

def test_save_and_load(warm, tmp_path):
    f = warm.save(tmp_path/'w', return_path=True)
    other = film_classifier(epochs=0)
    other.load(f)
    assert other.temperature==2.5 and torch.allclose(other.predict_texts(TEXTS), warm.predict_texts(TEXTS), atol=1e-6)
    a = load_archive(f)
    save_archive(tmp_path/'old.tnb', a.tensors, {k:v for k,v in a.meta.items() if k!='temperature'})
    other.load(tmp_path/'old.tnb')
    assert other.temperature==1
    for bad in 0, -1, 'hot', None, float('nan'), True, [2], 1e-9:
        before = [p.clone() for p in other.model.parameters()]
        save_archive(tmp_path/'bad.tnb', {k:v*0 if v.is_floating_point() else v for k,v in a.tensors.items()}, a.meta|dict(temperature=bad))
        with pytest.raises(ValueError, match=r'bad\.tnb'): other.load(tmp_path/'bad.tnb')
        assert other.temperature==1 and all(torch.equal(p, q) for p,q in zip(before, other.model.parameters()))

@pytest.mark.parametrize('bad', [0, -2., 1e-30, 1e30, float('nan'), float('inf'), '2', None, True, [2.], {}])
def test_forged_temperatures(warm, tmp_path, bad):
    a = load_archive(warm.export(tmp_path/'e.tnb'))
    assert a.meta['outputs']['temperature']==2.5
    a.meta['outputs']['temperature'] = bad
    save_archive(tmp_path/'forged.tnb', a.tensors, a.meta, a.files)
    with pytest.raises(ArchiveError, match=r'forged\.tnb'): load_learner(tmp_path/'forged.tnb')
    b = load_archive(EnsembleLearner([warm, warm]).export(tmp_path/'b.tnb'))
    b.meta['temperature'] = bad
    save_archive(tmp_path/'forged.tnb', b.tensors, b.meta, b.files)
    with pytest.raises(ArchiveError, match=r'forged\.tnb'): load_learner(tmp_path/'forged.tnb')

def test_old_files_have_none(films, tmp_path):
    a = load_archive(films.export(tmp_path/'e.tnb'))
    assert 'temperature' not in a.meta['outputs'] and load_learner(tmp_path/'e.tnb').temperature==1

def test_calibrating(tmp_path):
    films = at_home(film_classifier(epochs=2), tmp_path)
    before, accuracy = films.validate()
    assert accuracy<1
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        t = films.calibrate()
    assert films.temperature==t!=1 and films.validate()[0]<=before
    assert films.calibrate()==pytest.approx(t)  # the temperature before plays no part
    again = load_learner(films.export('e.tnb'))
    with pytest.raises(ValueError): again.calibrate()  # it has no texts with labels
    again.data.add_test(TEXTS)
    with pytest.raises(ValueError, match='label'): again.calibrate(DatasetType.Test)

def test_calibrating_on_one_text(tmp_path):
    df = film_reviews()
    data = TextClasDataBunch.from_df(tmp_path, df[:90], df[90:91], text_cols='text', label_cols='label', bs=8)
    learn = text_classifier_learner(data, AWD_LSTM, config=dict(emb_sz=16, n_hid=24, n_layers=1), pretrained=False, silent=True)
    with pytest.warns(UserWarning, match=r'few texts \(1\)'): t = learn.calibrate()
    assert .01<=t<=100

def test_training_forgets_it(films):
    films.temperature = 2.
    with pytest.warns(UserWarning, match='the temperature 2 was fitted'): films.fit(1, 1e-6)
    assert films.temperature==1
    films.temperature = 2.
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        films.lr_find(num_it=5)
    assert films.temperature==2  # the weights are as they were
    films.temperature = 1.

def test_several_labels(tmp_path):
    learn = several_labels(tmp_path)
    before = learn.validate()[0]
    t = learn.calibrate()
    scores, y = learn.scores_on(DatasetType.Valid)
    assert t==pytest.approx(fit_temperature(scores, y)) and learn.validate()[0]<=before+1e-6
    assert torch.allclose(learn.get_preds()[0], (scores/t).sigmoid(), atol=1e-6)
    again = load_learner(learn.export('m.tnb'))
    assert torch.allclose(again.predict_texts(TEXTS), learn.predict_texts(TEXTS), atol=1e-6)
    both = EnsembleLearner([learn, learn])
    both.temperature = 3.
    p = learn.predict_texts(TEXTS)
    assert torch.allclose(both.predict_texts(TEXTS), (p.logit()/3).sigmoid(), atol=1e-5)
    assert learn.reliability().n==y.numel()
    with pytest.raises(TypeError, match='one class a text'): learn.predict_labels(TEXTS)

def test_models_without_probabilities(tmp_path):
    lm = numbers_lm(epochs=0)
    for call in lm.calibrate, lm.reliability:
        with pytest.raises(TypeError, match='for classifiers'): call()
    with pytest.raises(ValueError, match='these labels are the next word'): lm.temperature = 2.
    df = film_reviews(40)
    df['label'] = np.arange(40)/10
    data = (TextList.from_df(df, tmp_path, cols='text').split_by_idx(list(range(30, 40)))
        .label_from_df('label', label_cls=FloatList).databunch(bs=8))
    stars = text_classifier_learner(data, AWD_LSTM, config=dict(emb_sz=16, n_hid=24, n_layers=1), pretrained=False, silent=True)
    with pytest.raises(TypeError, match='for classifiers'): stars.calibrate()
    with pytest.raises(ValueError, match='these labels are numbers'): stars.temperature = 2.

def test_an_ensemble(films, tmp_path):
    films.temperature = 2.
    other = at_home(film_classifier(epochs=2), tmp_path)
    both = EnsembleLearner([films, other])
    mean = (films.predict_texts(TEXTS)+other.predict_texts(TEXTS))/2
    assert torch.allclose(both.predict_texts(TEXTS), mean, atol=1e-6)
    before = both.validate()[0]
    t = both.calibrate()
    assert both.validate()[0]<=before+1e-6 and (films.temperature, other.temperature)==(2., 1.)
    again = load_learner(both.export(tmp_path/'both.tnb'))
    want = (mean.log()/t).softmax(1)
    for learn in both, again: assert torch.allclose(learn.predict_texts(TEXTS), want, atol=1e-5)
    assert torch.allclose(both.predict_first(DatasetType.Valid, 4), both.get_preds()[0][:4], atol=1e-5)
    assert again.temperature==t and again.learners[0].temperature==2
    films.temperature = 1.

# the command

def call(capsys, *args):
    capsys.readouterr()
    code = main([str(o) for o in args])
    out, err = capsys.readouterr()
    return code, out, err

@pytest.fixture(scope='module')
def model(films, tmp_path_factory):
    folder = tmp_path_factory.mktemp('model')
    df = film_reviews(60, seed=5)
    df.to_csv(folder/'t.csv', index=False)
    films.temperature = 3.
    films.export(folder/'m.tnb')
    films.temperature = 1.
    return folder

def test_unsure_predictions(model, capsys):
    args = 'predict', model/'m.tnb', '--csv', model/'t.csv', '--text-col', 'text'
    plain = json.loads(call(capsys, *args, '--format', 'json')[1])
    top = sorted(max(o['neg'], o['pos']) for o in plain)
    limit = round((top[20]+top[21])/2, 5)
    n = sum(o<limit for o in top)
    for fmt in 'json', 'jsonl', 'csv':
        code, out, err = call(capsys, *args, '--format', fmt, '--unsure', limit)
        if fmt=='json': rows = json.loads(out)
        elif fmt=='jsonl': rows = [json.loads(o) for o in out.splitlines()]
        else: rows = pd.read_csv(io.StringIO(out)).to_dict('records')
        assert code==0 and f'unsure about {n} of 60 texts' in err
        for a,b in zip(plain, rows):
            sure = max(a['neg'], a['pos'])>=limit
            assert b['prediction']==(a['prediction'] if sure else 'unsure') and b['pos']==pytest.approx(a['pos'])
    out = call(capsys, *args, '--format', 'table', '--unsure', limit)[1]
    assert sum('unsure' in o for o in out.splitlines())==n
    assert 'unsure about 0 of 60' in call(capsys, *args, '--unsure', '.01')[2]
    assert 'unsure' not in call(capsys, *args)[2]

def test_unsure_evaluation(model, capsys):
    code, out, err = call(capsys, 'evaluate', model/'m.tnb', model/'t.csv', '--json', '--unsure', .7)
    res = json.loads(out)
    learn = load_learner(model/'m.tnb')
    df = pd.read_csv(model/'t.csv')
    p = learn.predict_texts(list(df.text))
    y = torch.tensor([learn.data.classes.index(o) for o in df.label])
    sure = p.amax(1)>=.7
    right = p.argmax(1)==y
    assert code==0 and res['unsure']['n']==int(sure.sum()) and res['unsure']['share']==pytest.approx(float(sure.float().mean()))
    if sure.any(): assert res['unsure']['accuracy']==pytest.approx(float(right[sure].float().mean()))
    assert res['brier']==pytest.approx(brier_score(p, y)) and res['calibration_error']==pytest.approx(Reliability(p.amax(1), right).error)
    lo, hi = res['accuracy_interval']
    assert lo<=res['accuracy']<=hi and [o['label'] for o in res['by_class']]==['neg','pos']
    out = call(capsys, 'evaluate', model/'m.tnb', model/'t.csv', '--unsure', .7)[1]
    assert '--unsure 0.7:' in out and 'share answered' in out and 'precision' in out and '95 % interval' in out

def test_unsure_is_checked(model, tmp_path, capsys):
    for bad in '60', '0', 'x', '-1', 'nan':
        with pytest.raises(SystemExit): main(['predict', str(model/'m.tnb'), 'a', '--unsure', bad])
    at_home(several_labels(tmp_path), tmp_path).export('multi.tnb')
    code, _, err = call(capsys, 'predict', tmp_path/'multi.tnb', 'a film', '--unsure', .6)
    assert code==2 and 'one class a text' in err

def test_the_report_of_an_evaluation(model, tmp_path, capsys):
    page = tmp_path/'r.html'
    code, out, err = call(capsys, 'evaluate', model/'m.tnb', model/'t.csv', '--report', page, '--unsure', .7)
    html = page.read_text(encoding='utf-8')
    assert code==0 and f'page written to {page}' in err
    for said in ('By class', 'How far its probabilities can be trusted', 'The largest losses', 'temperature of 3', 'With --unsure 0.7', 'AWD_LSTM'): assert said in html
    assert not any(o in html for o in ('<script', 'http:', 'https:', 'src='))
    assert call(capsys, 'evaluate', model/'m.tnb', model/'t.csv', '--report', model/'t.csv')[0]==2
    assert call(capsys, 'evaluate', model/'m.tnb', model/'t.csv', '--report', tmp_path)[0]==2
    both = EnsembleLearner([model/'m.tnb', model/'m.tnb'])
    both.path = tmp_path
    both.export('both.tnb')
    assert call(capsys, 'evaluate', tmp_path/'both.tnb', model/'t.csv', '--report', page)[0]==0
    html = page.read_text(encoding='utf-8')
    assert 'AWD_LSTM, AWD_LSTM' in html and 'Why it decided so' not in html

def test_the_report_of_several_labels(tmp_path, capsys):
    at_home(several_labels(tmp_path), tmp_path).export('multi.tnb')
    df = film_reviews(20)
    df['label'] = [f'{l};short' for l in df.label]
    df.to_csv(tmp_path/'t.csv', index=False)
    code, out, err = call(capsys, 'evaluate', tmp_path/'multi.tnb', tmp_path/'t.csv', '--report', tmp_path/'r.html')
    html = (tmp_path/'r.html').read_text(encoding='utf-8')
    assert code==0 and 'By class' in html and 'Why it decided so' in html and 'trusted' not in html, err

def test_the_report_of_numbers(tmp_path, capsys):
    df = film_reviews(60)
    df['label'] = [len(t)/10 for t in df.text]
    data = (TextList.from_df(df, tmp_path, cols='text').split_by_idx(list(range(40, 60)))
        .label_from_df('label', label_cls=FloatList).databunch(bs=8))
    learn = text_classifier_learner(data, AWD_LSTM, config=dict(emb_sz=16, n_hid=24, n_layers=1), pretrained=False, silent=True)
    learn.export('n.tnb')
    df.to_csv(tmp_path/'t.csv', index=False)
    code, out, err = call(capsys, 'evaluate', tmp_path/'n.tnb', tmp_path/'t.csv', '--report', tmp_path/'r.html')
    html = (tmp_path/'r.html').read_text(encoding='utf-8')
    assert code==0 and 'mean absolute error' in html and 'trusted' not in html and 'Why it decided so' in html, err
    code, _, err = call(capsys, 'evaluate', tmp_path/'n.tnb', tmp_path/'t.csv', '--unsure', .6)
    assert code==2 and 'one class a text' in err

def test_a_class_that_is_called_unsure(tmp_path, capsys):
    df = film_reviews(60)
    df['label'] = df.label.replace(dict(neg='unsure'))
    data = TextClasDataBunch.from_df(tmp_path, df[:40], df[40:], text_cols='text', label_cols='label', bs=8)
    learn = text_classifier_learner(data, AWD_LSTM, config=dict(emb_sz=16, n_hid=24, n_layers=1), pretrained=False, silent=True)
    learn.export('u.tnb')
    code, out, err = call(capsys, 'predict', tmp_path/'u.tnb', 'a film', '--unsure', .9)
    assert code==0 and "a class of the model is called 'unsure', too" in err
    assert learn.predict_labels(['a film'], unsure=.99)==[None]
    assert set(learn.predict_labels(TEXTS))<={'unsure','pos'}

def test_calibrating_a_loaded_model(films, tmp_path):
    "With texts and labels of one's own"
    learn = load_learner(films.export(tmp_path/'e.tnb'))
    df = film_reviews(40, seed=9)
    learn.data.add_test(list(df.text), label=list(df.label))
    t = learn.calibrate(DatasetType.Test)
    scores = learn.predict_ids([learn.data.encode(o) for o in df.text], activ=lambda x: x)
    assert t==pytest.approx(fit_temperature(scores, [learn.data.classes.index(o) for o in df.label]), rel=1e-4)
