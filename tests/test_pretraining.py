"Weights from text of one's own: sources, words, plans, and a training that is killed and goes on"
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import textnb.learn.pretrained as home
from textnb.all import *
from textnb.base import load_archive
from textnb.learn import Pretraining, add_pretrained, mixed_vocab, pretrain, source_texts
from textnb.toys import film_reviews

ROOT = Path(__file__).parent.parent
TINY = dict(emb_sz=12, n_hid=16, n_layers=1)
KW = dict(config=TINY, bs=4, bptt=10, n_workers=0, silent=True)

@pytest.fixture
def folder(tmp_path):
    "Two tables: many texts about films, and few about something else"
    film_reviews(300).to_csv(tmp_path/'films.csv', index=False)
    pd.DataFrame(dict(text=['the quick zorblax sleeps', 'a zorblax and a wibblet']*10)).to_csv(tmp_path/'few.csv', index=False)
    return tmp_path

def test_sources_of_every_kind_hold_the_same(tmp_path):
    texts = ['One text.', 'Another, with a "quote"', 'third']
    df = pd.DataFrame(dict(text=texts))
    (tmp_path/'t').mkdir()
    df.to_csv(tmp_path/'t'/'a.csv', index=False)
    df.to_parquet(tmp_path/'t'/'b.parquet')
    (tmp_path/'c.txt').write_text('\n'.join(texts)+'\n\n')
    (tmp_path/'d').mkdir()
    for i,o in enumerate(texts): (tmp_path/'d'/f'{i}.txt').write_text(o)
    for o in ('t/a.csv', 't/b.parquet', 'c.txt', 'd'): assert list(source_texts(tmp_path/o))==texts, o
    assert list(source_texts(tmp_path/'t'))==texts*2

def test_errors_name_the_source(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no .*none.csv'): pretrain(tmp_path/'none.csv', tmp_path/'w', **KW)
    pd.DataFrame(dict(body=['a'])).to_csv(tmp_path/'x.csv', index=False)
    with pytest.raises(ValueError, match="'body'"): pretrain(tmp_path/'x.csv', tmp_path/'w', **KW)
    pd.DataFrame(dict(text=['only one text'])).to_csv(tmp_path/'one.csv', index=False)
    with pytest.raises(ValueError, match='only one text'): pretrain(tmp_path/'one.csv', tmp_path/'w', **KW)
    (tmp_path/'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='empty'): pretrain(tmp_path/'empty', tmp_path/'w', **KW)
    with pytest.raises(ValueError, match='shares above 0'): pretrain({tmp_path/'one.csv':0}, tmp_path/'w', **KW)

def test_a_small_source_has_its_say(folder):
    "A word of the small source, 20 times in 84 words, comes before one that is rarer in the large one"
    def place(shares):
        o = Pretraining(dict(zip([folder/'films.csv', folder/'few.csv'], shares)), folder/f'w{shares}', config=TINY)
        o.prepare(0)
        itos = o.stores[0].vocab.itos
        return itos.index('zorblax')
    assert place([1, 1])<place([50, 1])

def test_both_directions_share_the_words_and_are_found(folder, monkeypatch):
    monkeypatch.setattr(home, '_folders', list(home._folders))
    kw = dict(KW, tokens=4000, lr=3e-2)
    fwd = pretrain(folder/'films.csv', folder/'w', 'films', licence='mine', card=dict(bias='films only'), **kw)
    back = pretrain(folder/'films.csv', folder/'w', 'films', backwards=True, **kw)
    assert (fwd.name, back.name, fwd.backwards, back.backwards)==('films_forward', 'films_backward', False, True)
    assert load_archive(fwd.path).meta['vocab']==load_archive(back.path).meta['vocab']
    assert fwd.card['licence']=='mine' and fwd.card['bias']=='films only'
    add_pretrained(folder/'w')
    for way,name in ((False, 'films_forward.tnb'), (True, 'films_backward.tnb')):
        data = TextLMDataBunch.from_df('.', film_reviews()[:80], film_reviews()[80:], text_cols='text', backwards=way, bs=4)
        learn = language_model_learner(data, AWD_LSTM, config=TINY, silent=True)
        assert learn.load_report.source==name and learn.load_report.words.known==1
        assert learn.validate()[0]<np.log(len(data.vocab))-.5 # a model that knows nothing comes to the logarithm

def test_the_card_tells_what_a_validation_tells(folder):
    "Perplexity on texts that were kept aside, which are none of those that were read"
    o = Pretraining(folder/'films.csv', folder/'w', config=TINY, bs=4, bptt=10)
    train, valid = o.prepare(0)
    assert len(train)+len(valid)==300 and len(valid)>1
    plan = o.plan(tokens=4000)
    learn = o.train(plan, silent=True)
    card = o.card(learn, plan)
    assert float(re.match(r'([\d.]+) on', card['perplexity'])[1])==pytest.approx(np.exp(learn.validate()[0]), abs=.06)
    assert f'{plan["epochs"]*plan["batches"]*40:,} tokens' in card['recipe'] and f'{len(train):,} texts' in card['data']

def test_the_length_is_what_was_asked_for(folder):
    "Tokens within a batch an epoch, and a cycle that ends with them"
    for tokens in (400, 5000):
        o = Pretraining(folder/'films.csv', folder/f'w{tokens}', config=TINY, bs=4, bptt=10)
        o.prepare(0)
        plan = o.plan(tokens=tokens)
        learn = o.train(plan, silent=True)
        assert len(learn.recorder.losses)==plan['epochs']*plan['batches']
        assert abs(len(learn.recorder.losses)*40-tokens)<=40*plan['epochs']
        assert learn.recorder.lrs[-1]<learn.recorder.lrs[0]<max(learn.recorder.lrs)

def test_minutes_become_batches_by_the_speed(folder, monkeypatch):
    monkeypatch.setattr(Pretraining, 'speed', lambda self: 2.)
    o = Pretraining(folder/'films.csv', folder/'w', config=TINY, bs=4, bptt=10)
    o.prepare(0)
    plan = o.plan(minutes=.5)
    assert abs(plan['epochs']*plan['batches']-60)<=plan['epochs']
    monkeypatch.setattr(Pretraining, 'speed', lambda self: 5.)
    assert o.plan(minutes=.5)==plan # it was written down, and a resumed training has the same end

def test_another_training_in_the_folder_is_refused(folder):
    pretrain(folder/'films.csv', folder/'w', tokens=800, **KW)
    for change in (dict(tokens=1600), dict(tokens=800, lr=1e-2), dict(tokens=800, config=dict(TINY, n_hid=20))):
        with pytest.raises(ValueError, match=f'other arguments.*{list(change)[-1]}'): pretrain(folder/'films.csv', folder/'w', **{**KW, **change})
    film_reviews(310).to_csv(folder/'films.csv', index=False)
    with pytest.raises(ValueError, match='other arguments'): pretrain(folder/'films.csv', folder/'w', tokens=800, **KW)

def test_a_damaged_store_is_built_again(folder):
    o = Pretraining(folder/'films.csv', folder/'w', config=TINY)
    first = [s.ids.tolist() for s in o.prepare(0)]
    for f in (folder/'w'/'work').glob('*.store'): f.write_bytes(f.read_bytes()[:200])
    assert [s.ids.tolist() for s in o.prepare(0)]==first

RUN = '''
import sys
from textnb.learn import pretrain
pretrain(sys.argv[1], sys.argv[2], tokens=6000, config=dict(emb_sz=12, n_hid=16, n_layers=1), bs=4, bptt=10, every=5, n_workers=0, silent=True)
'''

def test_killed_in_the_middle_it_goes_on_to_the_same_weights(folder):
    "SIGKILL while it trains; what comes out after another call is what an undisturbed one gives"
    env = {**os.environ, 'PYTHONPATH':str(ROOT), 'OMP_NUM_THREADS':'1'}
    checkpoint = folder/'cut'/'work'/'forward'/'models'/'checkpoint.tnb'
    p = subprocess.Popen([sys.executable, '-c', RUN, folder/'films.csv', folder/'cut'], env=env, stderr=subprocess.PIPE, text=True)
    stop = time.time()+120
    while time.time()<stop and p.poll() is None and not checkpoint.exists(): time.sleep(.01)
    assert p.poll() is None, p.stderr.read()[-2000:]
    os.kill(p.pid, signal.SIGKILL)
    p.wait()
    assert checkpoint.exists() and not (folder/'cut'/'own_forward.tnb').exists()
    files = [pretrain(folder/'films.csv', folder/to, tokens=6000, every=5, **KW).path for to in ('cut','whole')]
    cut, whole = map(load_archive, files)
    for k in cut.tensors: assert torch.equal(cut.tensors[k], whole.tensors[k]), k
    assert list(cut.tensors)==list(whole.tensors) and cut.meta==whole.meta

def test_a_vocabulary_has_no_mark_twice(folder):
    o = Pretraining(folder/'films.csv', folder/'w', config=TINY, max_vocab=64)
    itos = o.prepare(0)[0].vocab.itos
    real = [w for w in itos if w!='xxfake']
    assert len(real)==len(set(real)) and len(itos)<=64 and itos[0]=='xxunk'
    assert set(mixed_vocab([o.stores[0]], [1], 64).itos)==set(itos)

def test_the_command_writes_what_learners_find(folder, capsys, monkeypatch):
    "`textnb pretrain`, its card on standard output, and wrong calls"
    from textnb.command import main
    monkeypatch.setattr(home, '_folders', list(home._folders))
    call = ['pretrain', str(folder/'films.csv'), str(folder/'few.csv'), '--out', str(folder/'w'), '--name', 'mine', '--workers', '1']
    call += '--tokens 200 --bs 4 --bptt 10 --shares 3 1 --licence mine'.split()
    assert main(call)==0
    out, err = capsys.readouterr()
    assert 'films.csv, few.csv' in out and 'licence     mine' in out and 'perplexity' in out
    assert f"{folder/'w'/'mine_forward.tnb'}" in err and 'add_pretrained' in err
    assert main([*call, '--shares', '1'])==2 and 'each of the 2 sources' in capsys.readouterr().err
    assert main([*call[:1], str(folder/'none.csv'), *call[3:], '--shares', '1'])==1 and 'none.csv' in capsys.readouterr().err
    assert main([*call, '--tokens', '400'])==1 and 'other arguments (tokens)' in capsys.readouterr().err
