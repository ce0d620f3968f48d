"Predicting while another thread trains: predictions are those of some step of the training, and the training is as if nobody had asked"
import threading

import numpy as np, pandas as pd, pytest, torch

from textnb.learn import eval_mode, language_model_learner, text_classifier_learner
from textnb.models import AWD_LSTM
from textnb.text import TextClasDataBunch, TextLMDataBunch
from textnb.train import Callback

def bunch(path, lm=False):
    g = np.random.default_rng(0)
    df = pd.DataFrame(dict(text=[' '.join(g.choice('good bad fine poor film plot'.split(), 6)) for _ in range(120)]))
    df['label'] = ['pos' if t.count('good')>t.count('bad') else 'neg' for t in df.text]
    make,kw = (TextLMDataBunch,{'bptt':6}) if lm else (TextClasDataBunch,{'label_cols':'label'})
    return make.from_df(path, df[20:], df[:20], text_cols='text', bs=5, min_freq=1, seed=0, **kw)

def learner(path, lm=False):
    torch.manual_seed(0)
    make = language_model_learner if lm else text_classifier_learner
    l = make(bunch(path, lm), AWD_LSTM, config=dict(emb_sz=16, n_hid=16, n_layers=1), drop_mult=1.5, pretrained=False, silent=True)
    l.unfreeze()
    return l

class Answers(Callback):
    "The right answer after each step, worked out by the thread that trains"
    def __init__(self, ask): self.ask,self.right = ask,[]
    def before_fit(self): self.right.append(self.ask(self.learn))
    def after_step(self): self.right.append(self.ask(self.learn))

def ask(l): return l.predict_texts(['good film', 'bad'])
def ask_batch(l): return l.get_preds(n_batch=1)[0]

def weights(l): return torch.cat([p.detach().flatten() for p in l.model.parameters()])

def trained(path, ask, questions=None, lm=False, epochs=1):
    "A training during which `questions` is asked in other threads, the answers, and the right ones"
    l = learner(path, lm)
    answers,errors,go = [],[],threading.Event()
    def other():
        try:
            while not go.is_set(): answers.append(questions(l))
        except BaseException as e: errors.append(e)
    threads = [threading.Thread(target=other) for _ in range(2 if questions else 0)]
    cb = Answers(ask)
    torch.manual_seed(1)
    for t in threads: t.start()
    try: l.fit(epochs, 1e-2, callbacks=[cb])
    finally: go.set()
    for t in threads: t.join(60)
    assert not errors, errors
    return l,answers,cb.right

@pytest.mark.parametrize('q', [ask, ask_batch], ids=['predict','get_preds'])
def test_training_and_predicting(tmp_path, q):
    "Every prediction is that of a step, without dropout; the weights are those of an undisturbed training, to the bit"
    alone,_,right = trained(tmp_path, q)
    busy,answers,right2 = trained(tmp_path, q, q)
    assert torch.equal(weights(alone), weights(busy)) and len(right)==len(right2) and all(torch.equal(a, b) for a,b in zip(right, right2))
    assert len(answers)>5 and all(any(torch.allclose(a, r, atol=1e-6) for r in right) for a in answers)
    assert len({tuple(a.flatten().tolist()) for a in answers})>1
    assert len(busy.recorder.raw_losses)==len(busy.data.train_dl) and busy.recorder.raw_losses==alone.recorder.raw_losses

def test_language_model(tmp_path):
    "Writing in other threads does not disturb the stream of the one that trains"
    def write(l):
        from textnb.write import write_text
        return write_text(l, 'good', 3, temperature=0, seed=0) # without a seed it would draw from the global generator, as training does
    def nothing(l): return None
    alone = trained(tmp_path, nothing, lm=True, epochs=8)[0]
    busy,answers,_ = trained(tmp_path, nothing, write, lm=True, epochs=8)
    assert answers and torch.equal(weights(alone), weights(busy)) and busy.recorder.raw_losses==alone.recorder.raw_losses

def test_second_fit_and_validation_are_refused(tmp_path):
    l = learner(tmp_path)
    began,go = threading.Event(),threading.Event()
    class Wait(Callback):
        def after_batch(self):
            began.set()
            go.wait(60)
    t = threading.Thread(target=lambda: l.fit(1, 1e-3, callbacks=[Wait()]))
    t.start()
    began.wait(60)
    try:
        for f in (lambda: l.fit(1), l.validate, lambda: l.fit_one_cycle(1), l.lr_find):
            with pytest.raises(RuntimeError, match='another thread'): f()
        assert l.predict('good')[2].sum().item()==pytest.approx(1) and l.get_preds()[0].shape==(20,2)
    finally: go.set()
    t.join(60)
    assert l.epochs_done==1
    l.fit(1, 1e-3)
    l.validate()

def test_predicting_inside_a_callback(tmp_path):
    "The thread that trains may predict at any event, and dropout is on again afterwards"
    seen = []
    class Look(Callback):
        def after_pred(self): self.look()
        def after_batch(self): self.look()
        def before_validate(self): self.look()
        def look(self):
            flags = [m.training for m in self.learn.model.modules()]
            seen.append(self.learn.predict('good')[2])
            self.learn.get_preds(n_batch=1)
            assert flags==[m.training for m in self.learn.model.modules()]
    learner(tmp_path).fit(1, 1e-3, callbacks=[Look()])
    assert len(seen)>20

def test_readers_do_not_wait_for_each_other(tmp_path):
    l,both = learner(tmp_path),threading.Barrier(2, timeout=30)
    def read():
        with eval_mode(l.model): both.wait()
    threads = [threading.Thread(target=read) for _ in range(2)]
    for t in threads: t.start()
    for t in threads: t.join(60)
    assert not both.broken
