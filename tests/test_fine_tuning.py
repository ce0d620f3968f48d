"Fine-tuning in one call: tables of all sizes, kills, other architectures, odd input"
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from textnb.learn import ResumableStages, fine_tune_classifier, fine_tuning_vocab, load_learner, plan_training
from textnb.learn import split_labelled
from textnb.text import TextClasDataBunch
from textnb.toys import questions

def short(n, **changes): return plan_training(n, **{'epochs': 2, 'lm_epochs': 1, **changes})

def weights(learn): return list(learn.model.state_dict().values())

def equal(a, b): return all(torch.equal(x, y) for x,y in zip(weights(a), weights(b)))

class Cut:
    "Raise KeyboardInterrupt after so many steps of all stages together"
    def __new__(cls, n):
        from textnb.train import Callback
        class PowerCut(Callback):
            done = 0
            def after_step(self):
                PowerCut.done += 1
                if PowerCut.done==n: raise KeyboardInterrupt
        return PowerCut()

@pytest.mark.parametrize('cut', [2, 9, 37])
def test_goes_on_to_the_same_weights(tmp_path, monkeypatch, cut):
    "Wherever a training is cut off, it goes on to the weights and the figures of one that was not"
    monkeypatch.setattr(ResumableStages.__init__, '__defaults__', (3,))
    args = dict(plan=short(108), path=tmp_path, silent=True)
    df = questions(120)
    whole = fine_tune_classifier(df, **args)
    folder = tmp_path/'kept'
    with pytest.raises(KeyboardInterrupt): fine_tune_classifier(df, checkpoint=folder, callbacks=Cut(cut), **args)
    assert (folder/'about.json').is_file() and bool(list(folder.glob('*.tnb')))==(cut>3)
    again = fine_tune_classifier(df, checkpoint=folder, **args)
    assert equal(whole, again) and whole.history==again.history

KILLED = '''
import sys
from textnb.learn import fine_tune_classifier, plan_training, ResumableStages
from textnb.toys import questions
from textnb.train import Callback
ResumableStages.__init__.__defaults__ = (5,)
class Told(Callback):
    def after_step(self): print('step', flush=True)
fine_tune_classifier(questions(120), plan=plan_training(108, epochs=2, lm_epochs=1), path=sys.argv[1], checkpoint=sys.argv[1]+'/kept', silent=True, callbacks=Told())
'''

@pytest.mark.skipif(os.name=='nt', reason='signals of POSIX')
def test_kill(tmp_path):
    "A process that is killed leaves a folder that is taken up"
    args = dict(plan=short(108), path=tmp_path, silent=True)
    p = subprocess.Popen([sys.executable, '-c', KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    for _ in range(25): p.stdout.readline()
    p.send_signal(signal.SIGKILL)
    p.wait(30)
    p.stdout.close()
    assert (tmp_path/'kept'/'about.json').is_file()
    again = fine_tune_classifier(questions(120), checkpoint=tmp_path/'kept', **args)
    assert equal(again, fine_tune_classifier(questions(120), **args))

@pytest.mark.parametrize('what,change', [('seed', dict(seed=7)), ('plan', dict(plan=short(108, epochs=3))), ('direction', dict(direction='backward')),
    ('class_weights', dict(class_weights=True)), ('checksum', dict(train=questions(120, seed=5)))])
def test_another_training_is_refused(tmp_path, what, change):
    "The folder of another training is refused, with what differs"
    args = dict(train=questions(120), plan=short(108), path=tmp_path, checkpoint=tmp_path/'kept', silent=True)
    with pytest.raises(KeyboardInterrupt): fine_tune_classifier(callbacks=Cut(1), **args)
    with pytest.raises(ValueError, match=f'{what} was'): fine_tune_classifier(**{**args, **change})

@pytest.mark.parametrize('arch,config', [('AWD_LSTM', 'qrnn'), ('Transformer', 'small'), ('TransformerXL', 'small')])
def test_other_architectures(tmp_path, arch, config):
    "Architectures without weights start from random ones, and learn questions all the same"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        learn = fine_tune_classifier(questions(120), arch=arch, config=config, pretrained=False, path=tmp_path, silent=True,
            plan=plan_training(108, pretrained=False, attention=arch!='AWD_LSTM', lm_epochs=2, epochs=10))
    assert learn.validate()[1]>.6
    learn.export('model.tnb')
    again = load_learner(tmp_path, 'model.tnb')
    text = ['Where is the old castle?']
    assert torch.allclose(again.predict_texts(text), learn.predict_texts(text), atol=1e-5)

@pytest.mark.parametrize('n', [12, 30])
def test_few_texts(tmp_path, n):
    "A handful of texts trains without an error, whatever the warnings"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        learn = fine_tune_classifier(questions(n), path=tmp_path, silent=True, plan=short(n))
    assert learn.predict_texts(['Who wrote it?']).shape==(1,3)

def test_too_few_texts(tmp_path):
    "Where every text would have a class of its own, this is said"
    with pytest.raises(ValueError, match='a class of its own'): fine_tune_classifier(questions(6), path=tmp_path, silent=True)

def test_a_foreign_language(tmp_path):
    "Texts that the weights do not know are told, and training starts from random weights"
    words = 'кот дом река город книга лес стол'.split()
    rng = np.random.default_rng(0)
    rows = [dict(text=' '.join(rng.choice(words[:5] if i%2 else words[2:], 6)), label=i%2) for i in range(60)]
    with pytest.warns(UserWarning, match='know only 0%|know only 1%'):
        learn = fine_tune_classifier(pd.DataFrame(rows).astype({'label': str}), path=tmp_path, silent=True, plan=short(54))
    assert len(learn.data.vocab)<50

def test_words_that_only_new_texts_have(tmp_path):
    "The vocabulary holds the words of the weights beside those of the texts; without weights, only the latter"
    learn = fine_tune_classifier(questions(60), path=tmp_path, silent=True, plan=short(54))
    assert 'whale' in learn.data.vocab.stoi and len(learn.data.vocab)>=30_000
    learn = fine_tune_classifier(questions(60), path=tmp_path, silent=True, plan=short(54), pretrained=False)
    assert 'whale' not in learn.data.vocab.stoi

def test_no_weights_for_these_sizes(tmp_path):
    "Where there are no weights, this is said once, and the plan is that for random ones"
    with pytest.warns(UserWarning, match='no pretrained weights for TransformerXL'):
        learn = fine_tune_classifier(questions(60), arch='TransformerXL', path=tmp_path, silent=True, plan=short(54))
    assert learn.data.vocab.stoi.get('whale') is None

def test_unlabelled_texts(tmp_path):
    "Words of unlabelled texts are tuned, too"
    more = ['the zebra has eaten the grass']*20
    a = fine_tune_classifier(questions(60), path=tmp_path, silent=True, plan=short(54), unlabelled=more)
    assert a.data.vocab.stoi['zebra']<a.data.vocab.stoi['whale']

def test_a_bunch_is_taken_as_it_is(tmp_path):
    "A bunch keeps its split and its words; a second table beside it is refused"
    df = questions(60)
    data = TextClasDataBunch.from_df(tmp_path, df[:50], df[50:], text_cols='text', label_cols='label', min_freq=1)
    learn = fine_tune_classifier(data, silent=True, plan=short(50))
    assert learn.data.vocab.itos==data.vocab.itos and len(learn.data.valid_ds)==10 and learn.data.batch_size==8
    with pytest.raises(ValueError, match='leave `valid` out'): fine_tune_classifier(data, df)

def test_class_weights(tmp_path):
    "Rare classes weigh more in the loss of training"
    df = questions(60)
    df = pd.concat([df[df.label=='place'], df[df.label=='number'][:5]])
    learn = fine_tune_classifier(df, path=tmp_path, silent=True, plan=short(22), class_weights=True)
    n = np.bincount(learn.data.train_ds.labels)
    assert np.allclose(learn.loss_func.func.weight if hasattr(learn.loss_func, 'func') else learn.loss_func.weight, n.sum()/(2*n))

@pytest.mark.parametrize('cols', [dict(text_cols='body'), dict(label_cols='stars')])
def test_unknown_columns(cols):
    with pytest.raises((KeyError, ValueError)): fine_tune_classifier(questions(30), silent=True, **cols)

def test_the_split():
    "A tenth of each class, equal texts on one side, the same for the same seed"
    df = pd.concat([questions(200), questions(200)])
    train,valid = split_labelled(df)
    assert not set(train.text)&set(valid.text) and split_labelled(df)[1].equals(valid)
    assert len(train)+len(valid)==400 and not split_labelled(df, seed=1)[1].equals(valid)

def test_the_vocabulary():
    "Frequent words, rare ones that are known, then the rest of the known ones"
    texts = ['aa bb bb', 'cc bb', 'dd']
    v = fine_tuning_vocab(texts, ['xxunk', 'cc', 'ee'])
    assert v.itos[9:]==['bb', 'cc', 'ee']
    assert v.known_share==pytest.approx(1/6)

def test_no_lottery(tmp_path):
    "360 short rows in three classes are learned, by each of two seeds"
    for seed in (0, 1):
        learn = fine_tune_classifier(questions(360, seed=3), path=tmp_path, silent=True, seed=seed, plan=plan_training(324, epochs=6, lm_epochs=3))
        assert learn.validate()[1]>=.95
