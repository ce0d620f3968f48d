"Learner, recorder, schedules: exact, without side effects, and calm when things go wrong"
from types import SimpleNamespace
import math,os,random,signal,subprocess,sys,warnings
from functools import partial
from pathlib import Path

import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from torch import nn,optim

from textnb.train import *
from textnb.base import *

class DL:
    "A loader of the protocol"
    def __init__(self, x, y, bs, shuffle=False, seed=0): self.dataset,self.batch_size,self.shuffle,self.seed,self.epoch = (x,y),bs,shuffle,seed,0
    def __len__(self): return -(-len(self.dataset[1])//self.batch_size)
    def __iter__(self): return self.iter_from(0)
    def set_epoch(self, e): self.epoch = e
    def order(self):
        n = len(self.dataset[1])
        return np.random.default_rng((self.seed,self.epoch)).permutation(n) if self.shuffle else np.arange(n)
    def iter_from(self, k):
        for i in range(k*self.batch_size, len(self.dataset[1]), self.batch_size):
            idx = self.order()[i:i+self.batch_size]
            yield self.dataset[0][idx],self.dataset[1][idx]

class StreamLM(nn.Module):
    "A language model with a state, dropout, and textnb's three outputs"
    def __init__(self, seed=0):
        super().__init__()
        with preserve_rng():
            set_seed(seed)
            self.emb,self.rnn,self.drop,self.dec = nn.Embedding(10,8),nn.GRU(8,12,batch_first=True),nn.Dropout(.2),nn.Linear(12,10)
        self.state = None
    def reset(self): self.state = None
    def forward(self, x):
        h = self.state if self.state is not None and self.state.shape[1]==len(x) else None
        raw,h = self.rnn(self.drop(self.emb(x)), h)
        self.state = h.detach()
        out = self.drop(raw)
        return self.dec(out),[raw],[out]

def points(n=200, bs=16, path='.', seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=g)
    y = (x.norm(dim=1)<1.2).long()
    k = n//4
    return SimpleNamespace(train_dl=DL(x[k:], y[k:], bs, True), valid_dl=DL(x[:k], y[:k], bs), test_dl=DL(x[:7], y[:7]*0, bs),
        loss_func=CrossEntropyFlat(), device=torch.device('cpu'), path=Path(path), classes=['out','in'])

def stream(path='.', n=640, bs=8, bptt=5):
    ids = torch.randint(0, 10, (n+1,), generator=torch.Generator().manual_seed(0)).cumsum(0)%10
    rows = torch.stack([ids[i*(n//bs):(i+1)*(n//bs)+1] for i in range(bs)])
    class LM:
        seed = 0
        def __len__(self): return n//bs//bptt
        def __iter__(self): return self.iter_from(0)
        def iter_from(self, k): return ((rows[:,i:i+bptt],rows[:,i+1:i+bptt+1]) for i in range(k*bptt, len(self)*bptt, bptt))
    return SimpleNamespace(train_dl=LM(), valid_dl=LM(), loss_func=CrossEntropyFlat(), device=torch.device('cpu'), path=Path(path))

def mlp(seed=0, drop=0.):
    with preserve_rng():
        set_seed(seed)
        return nn.Sequential(nn.Linear(2,16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(drop), nn.Linear(16,2))

def weights(learn): return [p.detach().clone() for p in learn.model.state_dict().values()]
def same(a, b): return all(torch.equal(x, y) for x,y in zip(a, b))
three = lambda m: [m[0], [m[1],m[2]], [m[3],m[4]]]

# groups and learning rates

@settings(max_examples=50, deadline=None)
@given(n=st.integers(1,5), lo=st.floats(1e-7,1e-3), ratio=st.floats(1.,1e4))
def test_lr_range_is_geometric(n, lo, ratio):
    "Check 22: `lr_range(slice(a, b))` runs from a to b by a constant factor; `slice(b)` gives a tenth to all but the last"
    m = nn.Sequential(*[nn.Linear(1,1) for _ in range(n)])
    learn = Learner(points(), m, layer_groups=[[o] for o in m], silent=True)
    lrs = learn.lr_range(slice(lo, lo*ratio))
    assert len(lrs)==n and lrs[-1]==pytest.approx(lo*ratio) and (n==1 or lrs[0]==pytest.approx(lo))
    if n>2: assert np.allclose(lrs[1:]/lrs[:-1], lrs[1]/lrs[0])
    assert np.allclose(learn.lr_range(slice(lo)), [lo/10]*(n-1)+[lo]) and np.allclose(learn.lr_range(lo), lo)

def test_every_parameter_in_exactly_one_group():
    "Check 22: tied weights are in one optimizer group, and a forgotten parameter is an error that names it"
    m = nn.ModuleDict(dict(a=nn.Linear(3,3), b=nn.Linear(3,3)))
    m.b.weight = m.a.weight
    learn = Learner(points(), m, layer_groups=[[m.a],[m.b]], bn_wd=False, silent=True)
    learn.create_opt(1e-3)
    ps = [p for g in learn.opt.param_groups for p in g['params']]
    assert len(ps)==len(set(ps))==len(list(m.parameters()))
    with pytest.raises(ValueError, match='b.bias'): learn.split([[m.a]])

def test_freezing_really_freezes():
    "Check 22: after freeze() only the last group and BatchNorm move, and every later group after freeze_to"
    learn = Learner(points(), mlp(), silent=True).split(three)
    for call,still in ((learn.freeze, {'0.weight','0.bias'}),(partial(learn.freeze_to, -2), {'0.weight','0.bias'}),(learn.unfreeze, set())):
        call()
        before = {n:p.detach().clone() for n,p in learn.model.named_parameters()}
        learn.fit(1, 1e-2)
        assert {n for n,p in learn.model.named_parameters() if torch.equal(p, before[n])}==still

def test_weight_decay_means_the_same_everywhere():
    "True decay and L2, for Adam and SGD, against formulas written out"
    for true_wd in (True,False):
        w = nn.Linear(3,1,bias=False)
        learn = Learner(points(), w, opt_func=partial(optim.SGD, momentum=0.), wd=.3, true_wd=true_wd, silent=True)
        learn.create_opt(.1)
        old,grad = w.weight.detach().clone(),torch.tensor([[1.,-2.,.5]])
        w.weight.grad = grad.clone()
        learn._step()
        want = old*(1-.1*.3)-.1*grad if true_wd else old-.1*(grad+.3*old)
        assert torch.allclose(w.weight, want, atol=1e-6)

def test_adamw_is_adam_with_true_decay():
    "AdamW against the formula of v1: shrink by lr*wd, then Adam with betas (.9, .99)"
    w = nn.Linear(4,1,bias=False)
    learn = Learner(points(), w, wd=.1, silent=True)
    learn.create_opt(.01)
    p,m,v = w.weight.detach().double().clone(),0.,0.
    g = torch.Generator().manual_seed(0)
    for t in range(1,6):
        grad = torch.randn(1, 4, generator=g)
        w.weight.grad = grad.clone()
        learn._step()
        m,v = .9*m+.1*grad.double(),.99*v+.01*grad.double()**2
        p = p*(1-.01*.1)-.01*(m/(1-.9**t))/((v/(1-.99**t)).sqrt()+1e-8)
    assert torch.allclose(w.weight.double(), p, atol=1e-6)

# looking changes nothing

def test_validation_keeps_state_rng_and_flags():
    "A16, A26, law 8: validate, get_preds and pred_batch leave recurrent state, generators and flags alone, and start from an empty state"
    learn = Learner(stream(), StreamLM(), metrics=[accuracy,Perplexity()], silent=True)
    learn.fit(1, 1e-3)
    learn.model.train()
    learn.model.drop.eval()
    with torch.no_grad(): learn.model(next(iter(learn.data.train_dl))[0])
    state,rng,flags = learn.model.state,get_rng_state(),[m.training for m in learn.model.modules()]
    first = learn.validate()
    for f in (learn.validate, learn.get_preds, learn.pred_batch): f()
    assert learn.model.state is state and get_rng_state()==rng and flags==[m.training for m in learn.model.modules()]
    learn.model.state = torch.randn(1, 8, 12, generator=torch.Generator().manual_seed(1))
    assert learn.validate()==first
    assert first[2]==pytest.approx(math.exp(first[0]), rel=1e-5)

def test_training_with_and_without_looking():
    "Validation between epochs does not change the training: same weights with and without a validation set"
    res = []
    for valid in (True,False):
        data = stream()
        if not valid: data.valid_dl = None
        learn = Learner(data, StreamLM(), silent=True, callbacks=[RNNTrainer(2,1)])
        set_seed(3)
        learn.fit_one_cycle(3, 1e-2)
        res.append(weights(learn))
    assert same(*res)

@pytest.mark.parametrize('bs', [1,7,64])
def test_get_preds_order(bs):
    "Check 24: the order of the data set for train, valid and test, any bs, with n_batch, equal to single predictions"
    learn = Learner(points(), mlp(), silent=True)
    learn.fit(1, 1e-2)
    learn.data = data = points(bs=bs)
    data.train_dl.set_epoch(5)
    for name in ('Train','Valid','Test'):
        dl = getattr(data, f'{name.lower()}_dl')
        x,y = dl.dataset
        p,t,l = learn.get_preds(DatasetType[name], with_loss=True)
        with learn.evaluating() as m: single = torch.cat([m(o[None]).softmax(1) for o in x])
        assert torch.allclose(p, single, atol=1e-5) and torch.equal(t, y)
        assert torch.allclose(l, -p[torch.arange(len(y)),y].log(), atol=1e-4)
        q,u = learn.get_preds(DatasetType[name], n_batch=2)
        idx = np.sort(dl.order()[:2*bs])
        assert torch.allclose(q, single[idx], atol=1e-5) and torch.equal(u, y[idx])

def test_preds_of_a_language_model_stream():
    "C6: iter_preds carries the state from batch to batch and holds one batch; get_preds with n_batch takes no more than that"
    learn = Learner(stream(), StreamLM(), silent=True)
    it = learn.iter_preds(n_batch=3)
    next(it)
    assert torch.is_grad_enabled() and learn.model.training
    parts = [p for p,_ in learn.iter_preds(n_batch=3)]
    with learn.evaluating() as m: whole = m(torch.cat([x for (x,_),_ in zip(learn.data.valid_dl, range(3))], 1))[0].softmax(-1)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-6)
    assert learn.get_preds(n_batch=2)[0].shape==(16,5,10)

def test_lr_find_puts_everything_back():
    "Weights, moments, recurrent state, generators and epoch count are as before; the recorder keeps the curve"
    learn = Learner(stream(), StreamLM(), silent=True, callbacks=[RNNTrainer(2,1)])
    learn.fit(1, 1e-3)
    learn.model.state = torch.ones(1, 8, 12)
    opt = {k:v.clone() for k,v in learn.opt.state[learn.model.dec.weight].items()}
    w,rng,n = weights(learn),get_rng_state(),learn.epochs_done
    lr = learn.lr_find(num_it=60)
    assert same(w, weights(learn)) and get_rng_state()==rng and learn.epochs_done==n and torch.equal(learn.model.state, torch.ones(1, 8, 12))
    assert all(torch.equal(v, opt[k]) for k,v in learn.opt.state[learn.model.dec.weight].items())
    assert lr is None or 1e-7<=lr<=10
    assert learn.recorder.lrs[0]==pytest.approx(1e-7) and len(learn.recorder.lrs)<=60

def test_lr_find_interrupted():
    "Ctrl-C in lr_find puts everything back as well, and callbacks that write have no part in it"
    learn = Learner(stream(), StreamLM(), silent=True, callbacks=[RNNTrainer(2,1), CSVLogger('never'), SaveModelCallback(name='never')])
    class Press(Callback):
        def after_step(self):
            if self.learn.batch_i==9: signal.raise_signal(signal.SIGINT)
    press,w,rng,n = learn.add_cb(Press()),weights(learn),get_rng_state(),len(learn.callbacks)
    with pytest.raises(KeyboardInterrupt): learn.lr_find(end_lr=1.)
    assert same(w, weights(learn)) and get_rng_state()==rng and len(learn.callbacks)==n and len(learn.opt.state)==0
    learn.remove_cb(press)
    learn.lr_find(num_it=20)
    assert not Path('never.csv').exists() and not learn.file_for('never').exists()

def test_no_global_effects():
    "Law 8: warnings filters and matplotlib's settings stay; no warning is raised on the way; only the pictures are open"
    import matplotlib.pyplot as plt
    filters,figs,rc = list(warnings.filters),plt.get_fignums(),dict(plt.rcParams)
    learn = Learner(points(), mlp(), metrics=accuracy, silent=True)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        learn.fit_one_cycle(2, 1e-2)
        learn.lr_find(num_it=30)
        drawn = [f().number for f in (learn.recorder.plot, learn.recorder.plot_losses, learn.recorder.plot_lr)]
        learn.summary()
    assert warnings.filters==filters and plt.get_fignums()==[*figs, *drawn] and dict(plt.rcParams)==rc
    for n in drawn: plt.close(n)

# order of epochs

def test_epochs_follow_on():
    "Two fits of one epoch see the same orders as one fit of two, not the same order twice"
    seen = []
    class See(Callback):
        def before_batch(self):
            if self.learn.training: seen.append(self.learn.xb.sum().item())
    one,two = Learner(points(), mlp(), silent=True),Learner(points(), mlp(), silent=True)
    one.fit(2, 1e-3, callbacks=[See()])
    first,seen = seen,[]
    for _ in range(2): two.fit(1, 1e-3, callbacks=[See()])
    assert first==seen and first[:len(first)//2]!=first[len(first)//2:]
    assert same(weights(one), weights(two))

def test_a_cycle_in_pieces():
    "fit_one_cycle with tot_epochs and start_epoch equals one call"
    one,two = Learner(points(), mlp(), silent=True),Learner(points(), mlp(), silent=True)
    one.fit_one_cycle(4, 1e-2)
    for e in range(4): two.fit_one_cycle(1, 1e-2, tot_epochs=4, start_epoch=e)
    assert same(weights(one), weights(two))

def test_no_epochs():
    "Bad input: a cycle of no epochs is named"
    learn = Learner(points(), mlp(), silent=True)
    for n in (0,-1):
        with pytest.raises(ValueError, match=f'at least 1, and not {n}'): learn.fit_one_cycle(n, 1e-2)

@settings(max_examples=100, deadline=None)
@given(p=st.floats(0,1), start=st.floats(.05,.95), div=st.floats(2,100))
def test_one_cycle_bounds(p, start, div):
    "Rates stay between lr/final_div and lr; momentum between the two given; they move in opposite directions"
    lr,mom = one_cycle(p, 1., div_factor=div, pct_start=start)
    assert 1/(div*1e4)-1e-12<=lr<=1+1e-12 and .85-1e-12<=mom<=.95+1e-12
    lr2,mom2 = one_cycle(min(p+1e-3, 1), 1., div_factor=div, pct_start=start)
    assert (lr2-lr)*(mom2-mom)<=1e-12 or p<start<p+1e-3

# things go wrong

def test_ctrl_c(tmp_path):
    "Ctrl-C in the middle of an epoch: a real SIGINT; the learner stays usable and the recorder keeps what was recorded"
    learn = Learner(stream(tmp_path), StreamLM(), metrics=accuracy, silent=True)
    class Press(Callback):
        def after_backward(self):
            if self.learn.epoch==1 and self.learn.batch_i==4: signal.raise_signal(signal.SIGINT)
    flags = [m.training for m in learn.model.modules()]
    with pytest.raises(KeyboardInterrupt): learn.fit(3, 1e-3, callbacks=[Press(), MixedPrecision()])
    assert len(learn.recorder.rows)==1 and len(learn.recorder.losses)==16+4
    assert len(learn.callbacks)==1 and learn.amp_dtype is None and not learn.training
    assert flags==[m.training for m in learn.model.modules()] and all(p.grad is None for p in learn.model.parameters())
    learn.recorder.plot_losses()
    learn.save('after')
    learn.fit(1, 1e-3)
    learn.get_preds(n_batch=1)
    assert len(learn.recorder.rows)==1

def test_an_error_in_validation_leaves_a_usable_learner():
    "An exception in a metric comes through, and everything is put back"
    def broken(pred, targ): raise ZeroDivisionError
    learn = Learner(stream(), StreamLM(), metrics=broken, silent=True)
    with pytest.raises(ZeroDivisionError): learn.fit(1, 1e-3)
    assert learn.model.training and torch.is_grad_enabled() and not learn.training
    learn.metrics = []
    learn.fit(1, 1e-3)

full_disk = '''
import resource,signal,sys
sys.path.insert(0, sys.argv[1])
from test_train import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
learn = Learner(points(path=sys.argv[2]), mlp(7), silent=True)
learn.fit(1, 1e-2)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000,2000))
try: learn.save('model')
except OSError as e: print('caught', e)
learn.fit(1, 1e-2)
'''

@pytest.mark.skipif(sys.platform=='win32', reason='no file size limits')
def test_full_disk_while_saving(tmp_path):
    "No room for the new file: the error names it, the old file is whole, nothing half-written is left, and training can go on"
    learn = Learner(points(path=tmp_path), mlp(), silent=True)
    learn.fit(1, 1e-2)
    learn.save('model')
    before = learn.file_for('model').read_bytes()
    r = subprocess.run([sys.executable, '-c', full_disk, str(Path(__file__).parent), str(tmp_path)], capture_output=True, text=True)
    assert r.returncode==0, r.stderr
    assert 'caught' in r.stdout and 'model.tnb' in r.stdout
    assert learn.file_for('model').read_bytes()==before and os.listdir(tmp_path/'models')==['model.tnb']
    Learner(points(path=tmp_path), mlp(3), silent=True).load('model')

def test_load_reports(tmp_path):
    "Law 7: what does not fit is named on both sides with the cure, and nothing is changed"
    learn = Learner(points(path=tmp_path), mlp(), silent=True)
    learn.fit(1, 1e-2)
    learn.save('m')
    wide = Learner(points(path=tmp_path), nn.Sequential(nn.Linear(2,20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(), nn.Linear(20,2)), silent=True)
    w = weights(wide)
    with pytest.raises(ValueError, match=r'`0.weight` is \(16, 2\) in the file but \(20, 2\) in the model.*Build the model'): wide.load('m')
    deep = Learner(points(path=tmp_path), nn.Sequential(*mlp(), nn.Linear(2,2)), silent=True)
    d = weights(deep)
    with pytest.raises(ValueError, match='not in the file: 5.weight, 5.bias'): deep.load('m')
    assert same(w, weights(wide)) and same(d, weights(deep))
    deep.load('m', strict=False)
    assert deep.load_report.missing==['5.weight','5.bias'] and len(deep.load_report.loaded)==9

def test_a_vocab_that_does_not_fit(tmp_path):
    "Words are compared, not only counted: size, order and cure are in the message"
    vocab = lambda *ws: SimpleNamespace(itos=list(ws))
    data = points(path=tmp_path)
    data.vocab = vocab('xxunk','the','film')
    learn = Learner(data, mlp(), silent=True)
    learn.save('m')
    w = weights(learn)
    for itos,msg in ((['xxunk','film','the'], "3 entries, this learner has 3; they first differ at id 1: 'the' there, 'film' here"),
            (['xxunk','the'], "3 entries, this learner has 2; they first differ at id 2: 'film' there, nothing here")):
        data.vocab = vocab(*itos)
        other = Learner(data, mlp(1), silent=True)
        before = weights(other)
        with pytest.raises(ValueError, match='saved with vocab') as e: other.load('m')
        assert msg in str(e.value) and 'load_archive' in str(e.value) and same(before, weights(other))
    data.vocab = vocab('xxunk','the','film')
    assert same(w, weights(Learner(data, mlp(1), silent=True).load('m')))

def test_truncated_and_foreign_files(tmp_path):
    "A truncated archive and a missing one are errors with the path, and the model stays"
    learn = Learner(points(path=tmp_path), mlp(), silent=True)
    learn.fit(1, 1e-2)
    learn.save('m')
    f = learn.file_for('m')
    f.write_bytes(f.read_bytes()[:-100])
    w = weights(learn)
    with pytest.raises(ArchiveError, match='m.tnb'): learn.load('m')
    with pytest.raises(FileNotFoundError, match='none.tnb'): learn.load('none')
    save_archive(tmp_path/'models'/'odd.tnb', {}, dict(kind='panel'))
    with pytest.raises(ValueError, match='holds a panel'): learn.load('odd')
    assert same(w, weights(learn))

def test_save_load_continues_exactly(tmp_path):
    "Weights, moments and epoch order come back: training goes the same way, whatever the layer groups"
    a,b = Learner(points(path=tmp_path), mlp(), silent=True),Learner(points(path=tmp_path), mlp(5), bn_wd=False, silent=True)
    b.split(three)
    a.fit(2, 1e-2, wd=0.)
    a.save('m')
    b.load('m')
    for l in (a,b): l.fit(1, 1e-2, wd=0.)
    assert same(weights(a), weights(b))
    rng = get_rng_state()
    random.random()
    torch.rand(1)
    b.load('m')
    assert get_rng_state()!=rng
    b.load('m', with_rng=True)
    assert get_rng_state()==load_archive(a.file_for('m')).meta['rng']

def test_plain_loaders():
    "A DataLoader of PyTorch and a model with several inputs work too"
    from torch.utils.data import DataLoader, TensorDataset
    x,y = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)),torch.arange(30)%2
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(4,2)
        def forward(self, a, b): return self.lin(torch.cat([a,b], 1))
    collate = lambda ss: ([torch.stack([s[0] for s in ss])]*2, torch.stack([s[1] for s in ss]))
    dl = DataLoader(TensorDataset(x, y), batch_size=8, collate_fn=collate)
    learn = Learner(SimpleNamespace(train_dl=dl, valid_dl=dl), Two(), loss_func=nn.CrossEntropyLoss(), silent=True)
    learn.device = torch.device('cpu')
    learn.model.cpu()
    learn.fit(1, 1e-2)
    assert learn.get_preds()[0].sum(1).allclose(torch.ones(30))

def test_terminal_lines(capsys, monkeypatch):
    "In a terminal: a head line, and one plain line an epoch, no bars in the captured output"
    monkeypatch.setenv('IN_TEST', '1')
    learn = Learner(points(), mlp(), metrics=accuracy)
    learn.fit(2, 1e-2)
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()==['epoch','train_loss','valid_loss','accuracy'] and len(out)==3 and out[2].startswith('1 ')
    monkeypatch.delenv('IN_TEST')
    learn.fit(1, 1e-2)
    assert capsys.readouterr().out.splitlines()[0].split()[-1]=='time'
