"Callbacks: regularizers against goldens, exact resumption after a kill, half precision, trackers"
from types import SimpleNamespace
import math,os,random,signal,subprocess,sys
from functools import partial
from pathlib import Path

import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from test_train import DL, StreamLM, mlp, points, same, stream, weights
from textnb.train import *
from textnb.base import *
from textnb.text import TextClasDataBunch, TextLMDataBunch
from textnb.learn import language_model_learner, text_classifier_learner
from textnb.models import AWD_LSTM, get_text_classifier

goldens = Path(__file__).parent/'goldens'

# AR and TAR

def test_ar_tar_golden():
    "Check 13: AR and TAR equal v1's values, on a batch of activations"
    g = np.load(goldens/'ar_tar.npz')
    raw,out = torch.from_numpy(g['raw']),torch.from_numpy(g['out'])
    assert ar_loss(out, 2.).item()==pytest.approx(float(g['ar']), abs=1e-5)
    assert tar_loss(raw, 1.).item()==pytest.approx(float(g['tar']), abs=1e-5)

class Fixed(nn.Module):
    "A model that returns what it was given"
    def __init__(self, raw, out):
        super().__init__()
        self.raw,self.out,self.w = raw,out,nn.Parameter(torch.zeros(1))
    def forward(self, x): return torch.zeros(*self.raw.shape[:2], 4)+self.w,[self.raw],[self.out]

@settings(max_examples=30, deadline=None)
@given(bs=st.integers(1,4), sl=st.integers(1,5), seed=st.integers(0,10**6))
def test_ar_tar_in_training(bs, sl, seed):
    "Check 13, A15: exact and finite for bs 1 and sl 1, in what is differentiated only, and not in validation"
    g = torch.Generator().manual_seed(seed)
    raw,out = torch.randn(bs, sl, 3, generator=g),torch.randn(bs, sl, 3, generator=g)
    batch = (torch.zeros(bs, sl).long(),torch.zeros(bs, sl).long())
    learn = Learner(SimpleNamespace(train_dl=[batch], valid_dl=[batch], device='cpu'), Fixed(raw, out), loss_func=lambda p,t: p.mean(), silent=True)
    seen = {}
    class See(Callback):
        order = 50
        def after_loss(self): seen[self.learn.training] = self.learn.loss.item(),self.learn.loss_grad.item()
    learn.fit(1, 0., callbacks=[RNNTrainer(2., 1.), See()])
    h = raw.double().numpy()
    tar = ((h[:,1:]-h[:,:-1])**2).mean() if sl>1 else 0.
    want = 2*(out.double().numpy()**2).mean()+tar
    assert seen[True][1]-seen[True][0]==pytest.approx(want, rel=1e-5, abs=1e-6) and math.isfinite(seen[True][1])
    assert seen[False][1]==seen[False][0]
    assert learn.recorder.raw_losses==[seen[True][0]]

def test_ar_tar_in_float32():
    "B12: activations in bfloat16 are squared in float32"
    h = (torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))*3).bfloat16()
    assert ar_loss(h, 1.).dtype==tar_loss(h, 1.).dtype==torch.float32
    assert ar_loss(h, 1.).item()==pytest.approx(h.double().pow(2).mean().item(), rel=1e-5)

# exact resumption

class Noise(Callback):
    "Draws from every global generator, as data augmentation might"
    def after_step(self): self.learn.model.dec.bias.data += 1e-3*(random.random()+np.random.rand()+torch.rand(1).item())

class Kill(Callback):
    "The machine is switched off"
    order = 1000
    def __init__(self, armed): self.armed = armed
    def after_batch(self):
        l = self.learn
        if self.armed and l.training and l.epoch==1 and l.batch_i==9: os.kill(os.getpid(), signal.SIGKILL)

def train(mode, path, seed):
    "One life of a training: `whole`, `kill` or `resume`"
    set_seed(seed)
    cbs = [RNNTrainer(2,1), GradientClipping(.2), Noise(), Kill(mode=='kill')]
    learn = Learner(stream(path), StreamLM(seed), metrics=[accuracy,Perplexity()], callbacks=cbs, silent=True, add_time=False)
    if mode=='resume': learn.resume()
    else: learn.fit_one_cycle(3, slice(2e-2), callbacks=[CheckpointCallback(7), EarlyStoppingCallback(patience=9), CSVLogger()])
    learn.save('end')
    save_json(path/'curves.json', [learn.recorder.losses, learn.recorder.lrs, learn.recorder.moms, learn.recorder.rows])

@pytest.mark.skipif(sys.platform=='win32', reason='no SIGKILL')
def test_killed_and_resumed_in_a_fresh_process(tmp_path):
    "SIGKILL in the middle of an epoch; a fresh process with other seeds goes on from the last checkpoint: weights, moments, generators, curves and log are bit-equal"
    a,b = tmp_path/'a',tmp_path/'b'
    code = 'import sys; sys.path.insert(0, sys.argv[1]); from test_callbacks import *; train(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))'
    r = subprocess.run([sys.executable, '-c', code, str(Path(__file__).parent), 'kill', str(b), '1'], capture_output=True, text=True)
    assert r.returncode==-signal.SIGKILL, r.stderr
    assert os.listdir(b/'models')==['checkpoint.tnb'] and not (b/'curves.json').exists()
    with preserve_rng():
        train('whole', a, 1)
        train('resume', b, 77)
    x,y = load_archive(a/'models'/'end.tnb'),load_archive(b/'models'/'end.tnb')
    assert x.tensors.keys()==y.tensors.keys() and all(torch.equal(v, y.tensors[k]) for k,v in x.tensors.items())
    assert any(k.startswith('opt.exp_avg_sq.') for k in x.tensors) and x.meta['opt']==y.meta['opt']
    for o in (x,y): o.meta['rng'].pop('cuda')  # a model on the CPU draws nothing there
    assert x.meta['rng']==y.meta['rng']
    assert load_json(a/'curves.json')==load_json(b/'curves.json')
    assert (a/'history.csv').read_bytes()==(b/'history.csv').read_bytes()

@pytest.mark.parametrize('stop', [1,7,15,16,17,31,32])
def test_resume_at_any_batch(tmp_path, stop):
    "First, middle and last batches of epochs, and the last of all"
    make = lambda seed: Learner(stream(tmp_path), StreamLM(seed), silent=True, add_time=False, metrics=accuracy, callbacks=[RNNTrainer(2,1)])
    whole,cut,new = make(0),make(0),make(9)
    for l,extra in ((whole, []),(cut, [CheckpointCallback(stop), StopAfterNBatches(stop+1)])):
        set_seed(5)
        l.fit_one_cycle(2, 1e-2, callbacks=extra)
    meta = load_archive(new.file_for('checkpoint')).meta['fit']['dict']
    assert meta['epoch']*16+meta['next_batch']==stop
    new.add_cb(StopAfterNBatches(999))
    new.resume()
    assert same(weights(whole), weights(new)) and whole.recorder.rows==new.recorder.rows and whole.recorder.losses==new.recorder.losses

def test_resume_frozen_and_part_of_a_cycle(tmp_path):
    "Frozen groups stay frozen, and a fit that was a part of a cycle ends where it would have ended"
    split = lambda m: [[m.emb],[m.rnn,m.drop],[m.dec]]
    make = lambda seed: Learner(stream(tmp_path), StreamLM(seed), silent=True).split(split)
    whole,cut,new = make(0),make(0),make(0)
    for l,extra in ((whole, []),(cut, [CheckpointCallback(20), StopAfterNBatches(25)])):
        l.freeze_to(-2)
        set_seed(5)
        l.fit_one_cycle(2, slice(1e-3,1e-2), tot_epochs=4, callbacks=extra, wd=.1)
    new.add_cb(StopAfterNBatches(999))
    new.resume()
    assert same(weights(whole), weights(new)) and new.epoch==1
    assert [p.requires_grad for p in new.model.parameters()]==[p.requires_grad for p in whole.model.parameters()]
    assert [g['weight_decay'] for g in new.opt.param_groups]==[.1]*3

def test_resume_refuses_other_data(tmp_path):
    "A loader of other size or with other batches, a plain save and a truncated file are errors that say so"
    learn = Learner(stream(tmp_path), StreamLM(), silent=True)
    learn.fit(1, 1e-2, callbacks=[CheckpointCallback(5)])
    with pytest.raises(ValueError, match='16 batches, this one has 8'): Learner(stream(tmp_path, n=320), StreamLM(), silent=True).resume()
    other = stream(tmp_path)
    k = other.train_dl.iter_from
    other.train_dl.iter_from = lambda i: ((x.flip(0),y.flip(0)) for x,y in k(i))
    with pytest.raises(ValueError, match='other texts'): Learner(other, StreamLM(), silent=True).resume()
    learn.save('plain')
    with pytest.raises(ValueError, match='not a checkpoint'): learn.resume('plain')
    f = learn.file_for('checkpoint')
    f.write_bytes(f.read_bytes()[:500])
    with pytest.raises(ArchiveError, match='checkpoint.tnb'): learn.resume()

def _texts(path, kind, n=60):
    words = np.random.default_rng(0).choice('a b c d e f g h'.split(), (n,12))
    df = pd.DataFrame(dict(label=words[:,0], text=[' '.join(o[:3+i%9]) for i,o in enumerate(words)]))
    bunch = TextLMDataBunch if kind=='lm' else TextClasDataBunch
    kw = dict(bptt=7) if kind=='lm' else {}
    return bunch.from_df(path, df[:n-12], df[n-12:], text_cols='text', label_cols='label', min_freq=1, bs=6, **kw)

@pytest.mark.parametrize('kind', ['lm','clas'])
def test_resume_without_a_seed(tmp_path, kind):
    "Data made without a seed are shuffled otherwise in a new process: the checkpoint's seed is taken over"
    small = dict(emb_sz=6, n_hid=8, n_layers=2)
    def make(seed):
        set_seed(seed)
        f = language_model_learner if kind=='lm' else text_classifier_learner
        return f(_texts(tmp_path, kind), AWD_LSTM, config=small, pretrained=False, silent=True)
    with preserve_rng():
        whole,cut = make(1),make(1)
        n = len(whole.data.train_dl)
        for l,extra in ((whole, []),(cut, [CheckpointCallback(n+2), StopAfterNBatches(n+3)])):
            set_seed(3)
            l.fit_one_cycle(2, 1e-2, callbacks=extra)
        new = make(2)
        assert new.data.train_dl.seed!=whole.data.train_dl.seed
        new.add_cb(StopAfterNBatches(999))
        new.resume()
        assert same(weights(whole), weights(new)) and whole.recorder.losses==new.recorder.losses
        other = make(2)
        other.data.train_dl.dataset = other.data.valid_ds
        with pytest.raises(ValueError, match='other texts|batches'): other.resume()

def test_padding_does_not_count_in_ar_and_tar(tmp_path):
    "Law 3, check 13: rows of a classifier's batch add what they would add alone"
    torch.manual_seed(0)
    model = get_text_classifier(AWD_LSTM, 20, 2, config=dict(emb_sz=6, n_hid=8, n_layers=2)).eval()
    docs = [torch.randint(2, 20, (n,)) for n in (3,9,5)]
    batch = torch.stack([torch.nn.functional.pad(d, (9-len(d),0), value=1) for d in docs])
    raw = model(batch)[1]
    alone = [model(d[None])[1][-1] for d in docs]
    tar = sum((h[:,1:]-h[:,:-1]).pow(2).sum() for h in alone)/(6*(2+8+4))
    ar = sum(h.pow(2).sum() for h in alone)/(6*(3+9+5))
    assert tar_loss(raw[-1], 1., raw.mask).item()==pytest.approx(tar.item(), rel=1e-5)
    assert ar_loss(raw[-1], 1., raw.mask).item()==pytest.approx(ar.item(), rel=1e-5)
    learn = Learner(SimpleNamespace(train_dl=[(batch,torch.tensor([0,1,0]))], valid_dl=[], device='cpu'), model, loss_func=lambda p,t: p.sum()*0, silent=True)
    seen = []
    class See(Callback):
        order = 50
        def after_pred(self): self.learn.output = tuple(self.learn.output)
        def after_loss(self): seen.append((self.learn.loss_grad.item(), tar_loss(self.learn.output[1][-1], 1., self.learn.output[1].mask).item()))
    learn.fit(1, 0., callbacks=[RNNTrainer(0., 1.), See()])
    assert seen[0][0]==pytest.approx(seen[0][1], rel=1e-5)

def test_a_tracker_without_validation(tmp_path):
    "What nobody measures cannot be watched"
    data = stream(tmp_path)
    data.valid_dl = None
    for cb in (EarlyStoppingCallback(), SaveModelCallback('accuracy')):
        with pytest.raises(ValueError, match='no validation set'): Learner(data, StreamLM(), metrics=accuracy, silent=True).fit(1, 1e-2, callbacks=[cb])
    Learner(data, StreamLM(), silent=True).fit(1, 1e-2, callbacks=[EarlyStoppingCallback('train_loss')])

def test_full_disk_at_a_checkpoint(tmp_path, monkeypatch):
    "No space for the second checkpoint: the error says so, the first is whole, and the learner can go on"
    learn,n,real = Learner(stream(tmp_path), StreamLM(), silent=True),[],os.fsync
    def fsync(fd):
        n.append(fd)
        if len(n)>2: raise OSError(28, 'No space left on device')
        return real(fd)
    monkeypatch.setattr(os, 'fsync', fsync)
    with pytest.raises(OSError, match='No space left.*checkpoint.tnb'): learn.fit(2, 1e-2, callbacks=[CheckpointCallback(6)])
    monkeypatch.undo()
    assert load_archive(learn.file_for('checkpoint')).meta['fit']['dict']['next_batch']==6
    assert os.listdir(tmp_path/'models')==['checkpoint.tnb']
    learn.fit(1, 1e-3)
    learn.resume()

# precision and gradients

def test_bf16_trains_float32_weights():
    "B12: weights, losses, gradients and moments are float32 under to_bf16, AR and TAR work, and predictions do not change with it"
    learn = Learner(stream(), StreamLM(), silent=True, callbacks=[RNNTrainer(2,1)]).to_bf16()
    kinds = set()
    class See(Callback):
        def after_pred(self):
            if self.learn.training: kinds.add(self.learn.output[0].dtype)
        def after_backward(self): kinds.update(p.grad.dtype for p in self.learn.model.parameters())
        def after_loss(self): kinds.add(self.learn.loss_grad.dtype)
    before = learn.get_preds(n_batch=2)[0]
    learn.fit(3, 1e-2, callbacks=[See()])
    assert kinds=={torch.float32,torch.bfloat16} and learn.recorder.val_losses[-1]<learn.recorder.val_losses[0]
    assert {v.dtype for s in learn.opt.state.values() for v in s.values()}=={torch.float32}
    full = Learner(stream(), learn.model, silent=True)
    assert torch.equal(full.get_preds()[0], learn.get_preds()[0]) and not torch.equal(before, learn.get_preds(n_batch=2)[0])

def test_fp16_on_a_cpu_says_what_to_use():
    "to_fp16 without a GPU names to_bf16"
    with pytest.raises(ValueError, match=r'use `to_bf16\(\)`'): Learner(stream(), StreamLM(), silent=True).to_fp16()

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_fp16_on_a_gpu(tmp_path):
    "float16 with loss scaling, clipping and a checkpoint, on a GPU"
    data = stream(tmp_path)
    data.device = torch.device('cuda')
    learn = Learner(data, StreamLM(), silent=True, callbacks=[RNNTrainer(2,1)]).to_fp16(clip=.1)
    learn.fit(3, 1e-2, callbacks=[CheckpointCallback(40)])
    assert learn.recorder.val_losses[-1]<learn.recorder.val_losses[0] and learn.scaler is None
    learn.resume()

def test_clipping_and_accumulating():
    "Clipping bounds the joint norm; accumulating n batches equals a batch n times the size, with a rest at the end"
    norms = []
    class See(Callback):
        order = 50
        def after_backward(self): norms.append(torch.stack([p.grad.norm() for p in self.learn.model.parameters()]).norm().item())
    Learner(points(), mlp(), silent=True).clip_grad(.01).fit(1, 0., callbacks=[See()])
    assert max(norms)<=.01+1e-6
    x,y = torch.randn(36, 2, generator=torch.Generator().manual_seed(0)),torch.arange(36)%2
    res = []
    for bs,cbs in ((12,[]),(4,[AccumulateScheduler(3)])):
        data = points()
        data.train_dl = DL(x, y, bs)
        with preserve_rng():
            set_seed(0)
            learn = Learner(data, nn.Linear(2,2), silent=True)
        learn.fit(2, 1e-2, callbacks=cbs)
        res.append(learn.model.weight.detach())
    assert torch.allclose(*res, atol=1e-6)

# trackers

class Script(Callback):
    "Plays a list of values into the recorder"
    order = -9
    def __init__(self, vals): self.vals = vals
    def after_epoch(self): self.learn.recorder.rows[-1][2] = self.vals[self.learn.epoch]

@pytest.mark.parametrize('vals,patience,epochs', [([3,2,1,1,1],0,4), ([3,2,2.5,1,2],0,3), ([3,2,2.5,1,2],1,5), ([3,math.nan,1,1,1],1,5), ([3,3,3,3,3],2,4)])
def test_early_stopping(vals, patience, epochs):
    "Stops after more than `patience` epochs without a new best; NaN is never a best"
    learn = Learner(points(), mlp(), silent=True)
    learn.fit(5, 1e-3, callbacks=[Script(vals), EarlyStoppingCallback(patience=patience)])
    assert len(learn.recorder.rows)==epochs

def test_best_model_is_loaded_at_the_end_and_after_ctrl_c(tmp_path):
    "SaveModelCallback loads the best epoch's weights; also after Ctrl-C, but never a file of an earlier fit"
    kept = {}
    class Keep(Callback):
        order = 30
        def after_epoch(self): kept[self.learn.epoch] = weights(self.learn)
    learn = Learner(points(path=tmp_path), mlp(), silent=True)
    learn.fit(4, 1e-2, callbacks=[Script([3,1,2,3]), SaveModelCallback(), Keep()])
    assert same(weights(learn), kept[1]) and not same(weights(learn), kept[3])
    class Press(Callback):
        def __init__(self, epoch): self.at = epoch
        def before_batch(self):
            if self.learn.training and self.learn.epoch==self.at and self.learn.batch_i==2: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt): learn.fit(4, 1e-2, callbacks=[Script([1,2,3,4]), SaveModelCallback(), Keep(), Press(2)])
    assert same(weights(learn), kept[0])
    with pytest.raises(KeyboardInterrupt): learn.fit(4, 1e-2, callbacks=[SaveModelCallback(), Press(0)])
    assert not same(weights(learn), kept[0])

def test_reduce_on_plateau():
    "The rate falls by `factor` when nothing gets better, and `patience` starts anew"
    learn,lrs = Learner(points(), mlp(), silent=True),[]
    class See(Callback):
        order = 40
        def after_epoch(self): lrs.append(self.learn.opt.param_groups[0]['lr'])
    learn.fit(5, 1., callbacks=[Script([3,2,2,2,2]), ReduceLROnPlateau(patience=1, factor=.5), See()])
    assert lrs==[1.,1.,1.,.5,.5]

def test_nan_ends_training_before_the_step():
    "TerminateOnNaN: the weights before the bad batch stay"
    def loss(p, t): return p.mean()*(math.nan if p.requires_grad and next(n)>=3 else 1.)
    n = iter(range(100))
    learn = Learner(points(), mlp(), loss_func=loss, silent=True)
    learn.fit(2, 1e-2, callbacks=[TerminateOnNaN()])
    assert len(learn.recorder.losses)==3 and all(torch.isfinite(o).all() for o in weights(learn))

def test_csv_log(tmp_path):
    "One row an epoch; `append` keeps earlier fits; an interrupted fit leaves a whole table"
    learn = Learner(points(path=tmp_path), mlp(), metrics=[accuracy], silent=True, add_time=False)
    learn.fit(2, 1e-2, callbacks=[CSVLogger()])
    log = CSVLogger(learn, append=True)
    learn.fit(1, 1e-2, callbacks=[log])
    lines = log.path.read_text().splitlines()
    assert lines[0]=='epoch,train_loss,valid_loss,accuracy' and len(lines)==4 and lines.count(lines[0])==1

def test_callbacks_as_in_v1():
    "The learner as first argument, callback_fns with classes, partial functions and functions of the learner"
    learn = Learner(points(), mlp(), silent=True, callback_fns=[CSVLogger, partial(EarlyStoppingCallback, patience=3), lambda l: GradientClipping(.1)])
    assert [type(o).__name__ for o in learn.callbacks]==['Recorder','CSVLogger','EarlyStoppingCallback','GradientClipping']
    assert learn.callbacks[2].patience==3 and SaveModelCallback(learn, every='epoch', name='x').file=='x'
    with pytest.raises(ValueError, match="cannot watch 'f1'.*valid_loss"): learn.fit(1, callbacks=[EarlyStoppingCallback(monitor='f1')])

# the real thing

def lm_learner(path, drop_mult=1., seed=3, fresh=0):
    "A small AWD-LSTM language model on numbers in words"
    from textnb.text import TextList
    from textnb.learn import language_model_learner
    from textnb.models import AWD_LSTM
    ones = 'one two three four five six seven eight nine'.split()
    texts = [f'{ones[i%9]} hundred {ones[i*5%9]} and {ones[i*7%9]}' for i in range(120)]
    import pandas as pd
    df = pd.DataFrame(dict(text=texts, is_valid=[i>=100 for i in range(120)]))
    data = TextList.from_df(df, path=path, cols='text').split_from_df('is_valid').label_for_lm().databunch(bs=4, bptt=6, seed=seed)
    with preserve_rng():
        set_seed(fresh)
        return language_model_learner(data, AWD_LSTM, dict(emb_sz=8, n_hid=10, n_layers=2), drop_mult, pretrained=False, silent=True, clip=.2, add_time=False)

def test_awd_lstm_resumes_exactly(tmp_path):
    "Dropout masks, weight drop, AR/TAR, clipping and the hidden state of AWD-LSTM: bit-equal after resuming in the middle of an epoch"
    whole,cut,new = [lm_learner(tmp_path, fresh=i//2) for i in range(3)]
    for l,extra in ((whole, []),(cut, [CheckpointCallback(11), StopAfterNBatches(40)])):
        set_seed(1)
        l.fit_one_cycle(2, 1e-2, callbacks=extra)
    fit = load_archive(new.file_for('checkpoint')).meta['fit']['dict']
    assert fit['epoch']==1 and 0<fit['next_batch']<fit['n_batches']
    new.add_cb(StopAfterNBatches(9999))
    new.resume()
    assert same(weights(whole), weights(new)) and whole.recorder.losses==new.recorder.losses and whole.recorder.rows==new.recorder.rows

def test_checkpoint_of_another_vocabulary(tmp_path):
    "A checkpoint is not resumed with other words, and the message names the first that differ"
    cut = lm_learner(tmp_path)
    cut.fit(1, 1e-2, callbacks=[CheckpointCallback(5)])
    new = lm_learner(tmp_path)
    new.data.vocab.itos[9],new.data.vocab.itos[10] = new.data.vocab.itos[10],new.data.vocab.itos[9]
    with pytest.raises(ValueError, match='first differ at id 9'): new.resume()

def test_one_load_report(tmp_path):
    "A learner's own file and an encoder come back with a report of the same class"
    learn = lm_learner(tmp_path)
    learn.save('all')
    learn.save_encoder('enc')
    own = learn.load('all').load_report
    enc = learn.load_encoder('enc').load_report
    assert isinstance(own, LoadReport) and isinstance(enc, LoadReport)
    assert own.ok and enc.ok and repr(own).startswith('all.tnb: ') and repr(enc).startswith('enc.tnb: ')
