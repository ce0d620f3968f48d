"The whole line: numbers in words, and a table that becomes a language model, an encoder, a classifier and a file"
import json, os, subprocess, sys
from pathlib import Path

import numpy as np, pandas as pd, pytest, torch
from textnb.all import *

small = dict(emb_sz=24, n_hid=32, n_layers=2)

def test_human_numbers():
    "Check 25: one layer of 100, three epochs of SGD with momentum at rate 1, and the next word of unseen numbers is right more than three times in ten"
    set_seed(42)
    path = untar_data(URLs.HUMAN_NUMBERS)
    train,valid = (pd.DataFrame(dict(text=[(path/f).read_text(encoding='utf-8')], label=0)) for f in ('train.txt','valid.txt'))
    data = TextLMDataBunch.from_df(path, train, valid, text_cols='text', label_cols='label', bs=64, bptt=70)
    config = {**awd_lstm_lm_config, 'emb_sz':100, 'n_hid':100, 'n_layers':1}
    learn = language_model_learner(data, AWD_LSTM, config=config, pretrained=False, opt_func=partial(torch.optim.SGD, momentum=.9), silent=True)
    learn.fit(3, 1)
    assert float(learn.validate()[1])>.3

def frame(n=160, seed=0):
    "Sentences whose label hangs on one word"
    r = np.random.default_rng(seed)
    good,bad,fill = ['great','lovely','fine'],['awful','dull','poor'],'the film was a story of two people in one long night and it had music'.split()
    rows = [(i%2, [*r.choice(fill, r.integers(3, 14))]) for i in range(n)]
    return pd.DataFrame([dict(label='pos' if y else 'neg', text=' '.join([*w[:2], r.choice(good if y else bad), *w[2:]])) for y,w in rows])

@pytest.fixture(scope='module')
def line(tmp_path_factory):
    "CSV -> language model -> encoder -> classifier"
    path = tmp_path_factory.mktemp('line')
    frame().to_csv(path/'texts.csv', index=False)
    set_seed(7)
    lm = TextLMDataBunch.from_csv(path, 'texts.csv', text_cols='text', label_cols='label', bs=4, bptt=16, min_freq=1)
    learn_lm = language_model_learner(lm, AWD_LSTM, config=small, pretrained=False, silent=True)
    learn_lm.fit_one_cycle(2, 1e-2)
    learn_lm.save_encoder('enc')
    clas = TextClasDataBunch.from_csv(path, 'texts.csv', text_cols='text', label_cols='label', bs=8, vocab=lm.vocab)
    learn = text_classifier_learner(clas, AWD_LSTM, config=small, pretrained=False, drop_mult=.1, silent=True)
    learn.load_encoder('enc')
    assert torch.equal(learn.model[0].module.encoder.weight, learn_lm.model[0].encoder.weight)
    learn.fit_one_cycle(1, 2e-2)
    learn.freeze_to(-2)
    learn.fit_one_cycle(1, slice(1e-2/2.6, 1e-2))
    learn.unfreeze()
    learn.fit_one_cycle(6, slice(1e-2, 2e-2))
    return learn

odd = ['a great film', 'so dull', '', 'line\nbreak  and   blanks', 'École 😀 <b>HTML</b> &amp;', 'ha ha ha ha ha '*40]

def test_learns(line): assert float(line.validate()[1])>.85

def test_export_to_another_process(line, tmp_path):
    "Check 25: export, load in a fresh process on another path, identical predictions"
    f = line.export(tmp_path/'a.tnb')
    there = tmp_path/'other'/'folder'
    there.mkdir(parents=True)
    (there/'b.tnb').write_bytes(Path(f).read_bytes())
    code = ("import json, sys\nfrom textnb.all import *\nlearn = load_learner('.', 'b.tnb')\n"
        "print(json.dumps([[str(c), int(i), p.tolist()] for c,i,p in learn.predict(json.loads(sys.argv[1]))]))")
    env = {**os.environ, 'PYTHONPATH':str(Path(__file__).parents[1])}
    r = subprocess.run([sys.executable, '-c', code, json.dumps(odd)], capture_output=True, text=True, cwd=there, env=env, timeout=120)
    assert r.returncode==0, r.stderr
    for (c,i,p),(c2,i2,p2) in zip(line.predict(odd), json.loads(r.stdout)):
        assert (str(c),int(i))==(c2,i2)
        np.testing.assert_array_equal(p.numpy(), np.array(p2, dtype=np.float32))

def test_same_document_same_result(line):
    "Law 3: `predict` one by one, many at once and `get_preds` agree to 1e-6"
    many = line.predict(odd)
    for t,(_,_,p) in zip(odd, many): np.testing.assert_allclose(line.predict(t)[2], p, atol=1e-6)
    ds = line.data.valid_ds
    probs = line.get_preds()[0]
    for i in range(5): np.testing.assert_allclose(line.predict(ds.raw_text(i))[2], probs[i], atol=1e-6)

def test_explains_the_word(line):
    "Of ten tokens, the one that gives the label away is among the two that matter most, in most texts"
    words = dict(great='pos', lovely='pos', fine='pos', awful='neg', dull='neg', poor='neg')
    res = [attribute(line, f'the film {w} it had two people in music') for w in words]
    assert [a.target_name for a in res]==list(words.values())
    assert sum(w in [a.tokens[i] for i in a.scores.argsort()[-2:]] for a,w in zip(res, words))>=4

def test_no_traces(line):
    "Law 8: predicting and explaining leave the global random state and the training flags as found"
    before,flags = torch.get_rng_state(),[m.training for m in line.model.modules()]
    np_state = np.random.get_state()[1].copy()
    line.predict(odd)
    line.get_preds()
    attribute(line, 'a great film')
    assert torch.equal(before, torch.get_rng_state()) and (np_state==np.random.get_state()[1]).all()
    assert flags==[m.training for m in line.model.modules()]
