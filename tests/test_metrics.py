"Metrics against scikit-learn, over batches of any size"
from types import SimpleNamespace
import math
from functools import partial

import numpy as np, pytest, torch
from hypothesis import assume, given, settings, strategies as st
from sklearn import metrics as skm

from textnb.base import *
from textnb.train import *

def run(metric, pred, targ, bs):
    metric.reset()
    for i in range(0, len(targ), bs): metric.accumulate(pred[i:i+bs], targ[i:i+bs])
    return metric.value

def logits_and_labels(n, c, seed):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, c, generator=g).double(),torch.randint(0, c, (n,), generator=g)

cases = given(n=st.integers(1,60), c=st.integers(2,5), bs=st.integers(1,70), seed=st.integers(0,10**6))
pytestmark = pytest.mark.filterwarnings("ignore:A single label was found")
fast = settings(max_examples=40, deadline=None)

@fast
@cases
def test_confusion_family(n, c, bs, seed):
    "Everything that is read off the confusion matrix equals scikit-learn, whatever the batch size"
    pred,targ = logits_and_labels(n, c, seed)
    best,labels = pred.argmax(1),list(range(c))
    assert (run(ConfusionMatrix(), pred, targ, bs).numpy()==skm.confusion_matrix(targ, best, labels=labels)).all()
    for avg in ('micro','macro','weighted'):
        kw = dict(average=avg, zero_division=0)
        assert run(Precision(avg), pred, targ, bs)==pytest.approx(skm.precision_score(targ, best, **kw))
        assert run(Recall(avg), pred, targ, bs)==pytest.approx(skm.recall_score(targ, best, **kw))
        assert run(FBeta(avg, beta=.5), pred, targ, bs)==pytest.approx(skm.fbeta_score(targ, best, beta=.5, **kw))
    assert run(MatthewsCorrcoef(), pred, targ, bs)==pytest.approx(skm.matthews_corrcoef(targ, best), abs=1e-9)

@fast
@cases
def test_kappa_and_auroc(n, c, bs, seed):
    "Kappa with all weights, and the area under the curve with ties"
    pred,targ = logits_and_labels(n, c, seed)
    assume(len(set(targ.tolist()))==c and len(set(pred.argmax(1).tolist()))>1)
    for w in (None,'linear','quadratic'): assert run(KappaScore(w), pred, targ, bs)==pytest.approx(skm.cohen_kappa_score(targ, pred.argmax(1), weights=w), abs=1e-9)
    coarse = pred.round()
    ref = skm.roc_auc_score(targ, (coarse[:,1]-coarse[:,0])) if c==2 else skm.roc_auc_score(targ, coarse.softmax(1), multi_class='ovr')
    assert run(AUROC(), coarse, targ, bs)==pytest.approx(ref, abs=1e-6)

@fast
@cases
def test_functions(n, c, bs, seed):
    "Plain functions are averaged over targets, not over batches"
    pred,targ = logits_and_labels(n, c, seed)
    assert run(as_metric(accuracy), pred, targ, bs)==pytest.approx(skm.accuracy_score(targ, pred.argmax(1)))
    assert run(as_metric(error_rate), pred, targ, bs)==pytest.approx(1-skm.accuracy_score(targ, pred.argmax(1)), abs=1e-6)
    assert run(as_metric(partial(top_k_accuracy, k=2)), pred, targ, bs)==pytest.approx(skm.top_k_accuracy_score(targ, pred, k=2, labels=range(c)) if c>2 else 1)
    tags = pred.roll(1, 0)>0
    assert run(as_metric(accuracy_thresh), pred, tags, bs)==pytest.approx(((pred>0)==tags).float().mean().item(), abs=1e-6)
    for avg in ('micro','macro','weighted'):
        got,ref = run(MultiLabelFbeta(average=avg), pred, tags, bs),skm.fbeta_score(tags, pred.sigmoid()>.3, beta=2, average=avg, zero_division=0)
        assert got==pytest.approx(ref) or (math.isnan(got) and not tags.any())

@fast
@given(n=st.integers(2,60), bs=st.integers(1,70), seed=st.integers(0,10**6), shift=st.sampled_from([0.,1e4]))
def test_regression(n, bs, seed, shift):
    "Errors of numbers"
    g = torch.Generator().manual_seed(seed)
    pred,targ = torch.randn(n, 1, generator=g).double()+shift,torch.randn(n, generator=g).double()+shift
    assert run(root_mean_squared_error(), pred, targ, bs)==pytest.approx(skm.root_mean_squared_error(targ, pred[:,0]))
    assert run(R2Score(), pred, targ, bs)==pytest.approx(skm.r2_score(targ, pred[:,0]), rel=1e-6, abs=1e-6)
    assert run(as_metric(mean_absolute_error), pred, targ, bs)==pytest.approx(skm.mean_absolute_error(targ, pred[:,0]))
    assert run(as_metric(mean_squared_error), pred, targ, bs)==pytest.approx(skm.mean_squared_error(targ, pred[:,0]))

@fast
@given(sizes=st.lists(st.tuples(st.integers(1,6),st.integers(1,9)), min_size=1, max_size=6), seed=st.integers(0,10**6))
def test_perplexity_by_tokens(sizes, seed):
    "A25: perplexity weights by tokens, for batches of different sizes and lengths"
    g = torch.Generator().manual_seed(seed)
    batches = [(torch.randn(b, s, 7, generator=g), torch.randint(0, 7, (b,s), generator=g)) for b,s in sizes]
    m = Perplexity()
    m.reset()
    for p,t in batches: m.accumulate(p, t)
    p,t = torch.cat([p.view(-1,7) for p,_ in batches]),torch.cat([t.view(-1) for _,t in batches])
    assert m.value==pytest.approx(math.exp(skm.log_loss(t, p.double().softmax(1), labels=range(7))), rel=1e-4)
    avg = AvgMetric(lambda p,t: CrossEntropyFlat()(p, t))
    for p,t in batches: avg.accumulate(p, t)
    assert math.exp(avg.value)==pytest.approx(m.value, rel=1e-4)

def test_mistakes_are_named():
    "Impossible choices say what is possible"
    pred,targ = logits_and_labels(9, 3, 0)
    with pytest.raises(ValueError, match='macro'): run(FBeta(), pred, targ, 4)
    with pytest.raises(ValueError, match='average'): Recall('all')
    with pytest.raises(ValueError, match='quadratic'): KappaScore('cubic')
    assert math.isnan(run(AUROC(), pred[:,:2], targ*0, 4))

@pytest.mark.parametrize('metrics,targ,cure', [
    ([accuracy, error_rate, top_k_accuracy, Perplexity, perplexity, FBeta(), Precision(), AUROC(), MatthewsCorrcoef, ConfusionMatrix], torch.ones(9, 3), 'accuracy_thresh'),
    ([accuracy, AUROC(), KappaScore()], torch.ones(9), 'mean_squared_error'),
    ([accuracy_thresh, fbeta, MultiLabelFbeta()], torch.ones(9).long(), 'FBeta'),
    ([mean_squared_error, mean_absolute_error, root_mean_squared_error, R2Score], torch.ones(9).long(), 'accuracy')])
def test_a_metric_of_another_kind(metrics, targ, cure):
    "A metric that meets targets of another kind names itself, the shapes, and the metrics that would do"
    for m in map(as_metric, metrics):
        with pytest.raises(ValueError, match=fr'wants.*\(9, 3\).*{cure}'): run(m, torch.randn(9, 3), targ, 9)

def test_perplexity_of_a_lost_model():
    "A diverging language model goes on: its perplexity is infinite, and the function means the same as the class"
    pred,targ = logits_and_labels(9, 3, 0)
    assert run(Perplexity(), pred*1e5, targ, 4)==math.inf
    assert run(as_metric(perplexity), pred, targ, 4)==run(Perplexity(), pred, targ, 4)

def test_in_a_learner_with_a_ragged_last_batch():
    "Every kind of metric in one learner, with a last batch of one item"
    x,y = torch.randn(33, 4, generator=torch.Generator().manual_seed(0)),torch.arange(33)%2
    class DL:
        dataset,batch_size = (x,y),8
        def __len__(self): return 5
        def __iter__(self): return ((x[i:i+8],y[i:i+8]) for i in range(0, 33, 8))
    with preserve_rng():
        set_seed(0)
        model = torch.nn.Linear(4, 2)
    data = SimpleNamespace(train_dl=DL(), valid_dl=DL(), loss_func=CrossEntropyFlat(), device='cpu')
    learn = Learner(data, model, metrics=[accuracy, error_rate, Perplexity, FBeta(), AUROC(), ConfusionMatrix()], silent=True, add_time=False)
    loss,acc,err,ppl,fb,auc,cm = learn.validate()
    out = model(x).detach()
    assert loss==pytest.approx(CrossEntropyFlat()(out, y).item(), abs=1e-6) and ppl==pytest.approx(math.exp(loss), rel=1e-5)
    assert acc==pytest.approx(skm.accuracy_score(y, out.argmax(1)), abs=1e-6) and err==pytest.approx(1-acc, abs=1e-6)
    assert fb==pytest.approx(skm.fbeta_score(y, out.argmax(1), beta=2)) and auc==pytest.approx(skm.roc_auc_score(y, out.softmax(1)[:,1]))
    assert np.array_equal(cm, skm.confusion_matrix(y, out.argmax(1)))
    learn.fit(1, 1e-3)
    assert '[[' in learn.recorder.cells[0][-1]
