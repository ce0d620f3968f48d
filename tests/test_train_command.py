"`textnb train`: where it starts, what it measures on, how it is repeated and resumed, and tables of every size"
import json, os, random, subprocess, sys, time
from pathlib import Path

import numpy as np, pandas as pd, pytest, torch
from commands import run
from textnb.base import load_archive
from textnb.command import open_model, read_settings

PLAIN = ('--no-pretrained', '--epochs-lm', 0) # random weights, and no language model: fast
TOPICS = dict(food='soup bread cheese pasta'.split(), music='song choir violin drum'.split(), travel='train ticket hotel bus'.split())

def topics(n=360, seed=0):
    "Short texts about three topics, made of six patterns, twelve words and ten adjectives"
    ways = ['the {} was {}', 'I liked the {} , it was {}', 'no {} again , {} as it was', 'one more {} today , {} again', 'my {} is {}', 'they say the {} is {}']
    adjectives = 'fine good late small old new loud cheap cold long'.split()
    rows = [(w.format(x, a), t) for w in ways for t,ws in TOPICS.items() for x in ws for a in adjectives]
    random.Random(seed).shuffle(rows)
    return rows[:n]

def table(path, rows, columns=('text','label')):
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path

def train(capsys, source, *more, out='m.tnb'): return run(capsys, 'train', source, *PLAIN, '--out', out, *more)

def weights(path): return load_archive(path).tensors

def same(a, b): return all(torch.equal(v, b[k]) for k,v in a.items()) and a.keys()==b.keys()

@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)

# ---- where it starts

@pytest.mark.parametrize('seed', [1, 2])
def test_short_rows_are_no_lottery(capsys, seed):
    "360 short rows in three classes; fewer epochs than the plan has, so that the plan has it easier"
    table('t.csv', topics())
    code, out, err = run(capsys, 'train', 't.csv', '--seed', seed, '--epochs', 3, '--epochs-lm', 1, '--test-pct', .2, '--json')
    res = json.loads(out)
    assert code==0 and res['test']['n']==72 and res['test']['accuracy']>=.95
    assert 'start: english_small_forward, which knows 100% of the words' in err

def test_other_languages_start_from_chance(capsys):
    words = dict(gut='wunderbar herrlich gelungen großartig'.split(), schlecht='furchtbar langweilig misslungen grauenhaft'.split())
    rows = [(f'der Kuchen schmeckte uns {w} und wir kommen {i} mal wieder', l) for i in range(5) for l,ws in words.items() for w in ws]
    table('g.csv', rows)
    code, _, err = run(capsys, 'train', 'g.csv', '--epochs', 1, '--epochs-lm', 0, '--out', 'm.tnb')
    assert code==0 and 'start: random weights' in err and 'do not look like English' in err
    assert len(open_model('m.tnb').data.vocab)<100 and read_settings('m.json')['made']['start']=='random weights'

@pytest.mark.parametrize('arch,kind', [('awd_qrnn','AWD_LSTM'), ('transformer','Transformer'), ('transformer_xl','TransformerXL')])
def test_every_architecture(capsys, arch, kind):
    table('t.csv', topics(40))
    code, _, err = run(capsys, 'train', 't.csv', '--arch', arch, '--epochs', 1, '--epochs-lm', 0, '--out', 'm.tnb')
    spec = load_archive('m.tnb').meta['spec']
    assert code==0 and spec['arch']==kind and f'there are none for {arch}, small' in err
    assert bool(spec['args']['config'].get('qrnn'))==(arch=='awd_qrnn')
    assert run(capsys, 'predict', 'm.tnb', 'the soup')[0]==0

def test_both_directions(capsys):
    table('t.csv', topics(40))
    code, out, err = train(capsys, 't.csv', '--direction', 'both', '--epochs', 1, '--json')
    assert code==0 and 'backwards' in err and len(open_model('m.tnb').learners)==2
    assert json.loads(out)['n'] and run(capsys, 'evaluate', 'm.tnb', 't.csv')[0]==0

def test_an_encoder(capsys):
    table('t.csv', topics(60))
    assert run(capsys, 'train-lm', 't.csv', '--epochs', 1, '--arch', 'transformer', '--out', 'lm')[0]==0
    code, _, err = run(capsys, 'train', 't.csv', '--encoder', 'lm/encoder.tnb', '--epochs', 1, '--out', 'm.tnb')
    assert code==0 and load_archive('m.tnb').meta['spec']['arch']=='Transformer' and 'start: the encoder lm/encoder.tnb' in err
    code, _, err = run(capsys, 'train', 't.csv', '--encoder', 'lm/encoder.tnb', '--direction', 'both')
    assert code==2 and 'reads forwards' in err

# ---- what is measured on

def test_a_test_part(capsys):
    table('t.csv', topics(100))
    code, out, err = train(capsys, 't.csv', '--epochs', 1, '--test-pct', .2, '--report', 'r.html')
    made = read_settings('m.json')['made']
    assert code==0 and made['parts']==dict(train=71, valid=9, test=20) and out.count('TF-IDF + logistic regression on the same split')==2
    page = Path('r.html').read_text(encoding='utf-8')
    assert 'Nothing was chosen by the texts measured on' in page and '20 unseen texts' in page and '<script' not in page
    assert train(capsys, 't.csv', '--test-pct', .5, '--valid-pct', .5)[0]==2

def test_folds(capsys):
    rows = topics(60)
    table('t.csv', rows+[rows[0]]*3+[('one alone', 'rare')])
    args = ('--folds', 3, '--epochs', 1, '--report', 'r.html', '--out', 'm.tnb')
    code, out, err = run(capsys, 'train', 't.csv', *PLAIN, *args, '--json')
    res = json.loads(out)
    assert code==0 and res['n']==63 and len(res['folds'])==3 and sum(o['n'] for o in res['folds'])==63
    assert res['accuracy']==pytest.approx(np.mean([o['accuracy'] for o in res['folds']])) and 'learns from all rows' in err
    assert res['baseline']['name']=='TF-IDF + logistic regression' and {'baseline','f1'}<=set(res['folds'][0])
    assert read_settings('m.json')['made']['parts']==dict(train=64) and 'rare' in open_model('m.tnb').data.classes
    assert '<h2>Folds</h2>' in Path('r.html').read_text(encoding='utf-8') and not Path('m.tnb.training').exists()

@pytest.mark.parametrize('args,told', [(('--folds',2,'--test-pct',.1), '--test-pct: --folds'), (('--folds',2,'--valid-col','label'), '--valid-col: --folds'),
    (('--folds',1), 'take 2 or more'), (('--valid-col','label','--test-pct',.1), 'says which rows')])
def test_calls_that_cannot_be_meant(capsys, args, told):
    table('t.csv', topics(20))
    code, _, err = train(capsys, 't.csv', *args)
    assert code==2 and told in err and not Path('m.tnb').exists()

def test_too_many_folds(capsys):
    table('t.csv', topics(6))
    code, _, err = train(capsys, 't.csv', '--folds', 10)
    assert code==1 and 'only 6 different texts' in err or 'only 5' in err or 'only 4' in err

# ---- tables of every size

def test_one_class(capsys):
    table('t.csv', [(t, 'x') for t,_ in topics(20)])
    code, _, err = train(capsys, 't.csv')
    assert code==1 and 'only one class' in err

@pytest.mark.parametrize('n', [5, 9, 50])
def test_few_texts(capsys, n):
    "A batch of one text, too: nine in batches of eight"
    rows = [o for o in topics() if o[1]!='food'][:n]
    table('t.csv', rows)
    code, out, err = train(capsys, 't.csv', '--epochs', 1)
    assert code==0 and 'an accuracy of so few is known to about plus or minus' in err

def test_many_classes_and_one_text(capsys):
    rows = [(f'word{i} and word{i} please {j}', f'c{i}') for i in range(30) for j in range(3)]
    table('t.csv', rows+[('quite alone', 'alone')])
    code, out, err = train(capsys, 't.csv', '--epochs', 1, '--class-weights')
    assert code==0 and 'alone' in open_model('m.tnb').data.classes and 'only one training text' in err

# ---- again

def test_the_same_again(capsys):
    "Settings beside the model repeat it bit for bit; options on the command line win over them"
    table('t.csv', topics(60))
    assert train(capsys, 't.csv', '--epochs', 2, '--seed', 7, '--clas-bs', 8, out='films.tnb')[0]==0
    code, _, err = run(capsys, 'train', 't.csv', '--config', 'films.json', '--out', 'again.tnb')
    assert code==0 and same(weights('films.tnb'), weights('again.tnb')) and 'not all is as in' not in err
    assert run(capsys, 'train', 't.csv', '--config', 'films.json', '--seed', 8, '--out', 'other.tnb')[0]==0
    assert read_settings('other.json')['settings']==dict(read_settings('films.json')['settings'], seed=8)
    assert not same(weights('films.tnb'), weights('other.tnb'))
    table('t.csv', topics(60, seed=1))
    assert 'not all is as in films.json: the table: sha256 was' in run(capsys, 'train', 't.csv', '--config', 'films.json', '--out', 'o.tnb')[2]

@pytest.mark.parametrize('change,told', [(dict(sead=1), "there is no setting 'sead'. Did you mean 'seed'?"), (dict(seed='x'), "'seed' is 'x', and must be a whole number"),
    (dict(epochs=-3), "'epochs' is '-3'"), (dict(arch='lstm'), 'must be one of awd_lstm, awd_qrnn'), (dict(pretrained=1), 'must be true or false'), (dict(out='x'), "no setting 'out'")])
def test_settings_that_are_none(capsys, change, told):
    table('t.csv', topics(20))
    Path('s.json').write_text(json.dumps(dict(kind='settings of textnb train', settings=change)))
    code, _, err = run(capsys, 'train', 't.csv', '--config', 's.json')
    assert code==1 and told in err and 's.json' in err

def test_files_that_hold_no_settings(capsys):
    table('t.csv', topics(20))
    for text in ('', '[]', '{"kind": 1}', '[' * 100000):
        Path('s.json').write_text(text)
        code, _, err = run(capsys, 'train', 't.csv', '--config', 's.json')
        assert code==1 and 's.json holds no settings of a training' in err
    assert run(capsys, 'train', 't.csv', '--config', 'none.json')[0]==1
    code, _, err = train(capsys, 't.csv', out='s.tnb') # its settings would go to s.json
    assert code==2 and 'holds something else' in err and Path('s.json').read_text()=='['*100000
    pd.DataFrame(topics(20), columns=['text','label']).to_json('d.json', orient='records')
    code, _, err = train(capsys, 'd.json', out='d.tnb')
    assert code==2 and 'would write over the file that is read' in err

def test_the_old_words_of_config(capsys):
    from textnb.command.parser import build_parser, parsed
    for command in (['train','t.csv'], ['demo'], ['train-lm','t.csv']):
        assert [parsed(build_parser(), [*command, *o]).size for o in ([], ['--config','full'], ['--size','full'])]==['small','full','full']

# ---- going on

def start(*args):
    env = {**os.environ, 'OMP_NUM_THREADS':'1', 'PYTHONPATH':str(Path(__file__).parents[1])}
    code = 'import sys; from textnb.command.parser import main; sys.exit(main())'
    return subprocess.Popen([sys.executable, '-c', code, *map(str, args)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)

def killed_after(stage, *args):
    "Start the command in a process of its own and kill it when the file `stage` is there"
    p = start(*args)
    until = time.monotonic()+240
    while p.poll() is None and not Path(stage).exists() and time.monotonic()<until: time.sleep(.02)
    p.kill()
    p.wait()
    assert Path(stage).exists() and not Path('k.tnb').exists()

def test_a_killed_training_goes_on(capsys, monkeypatch):
    torch.set_num_threads(1)
    table('t.csv', topics(120))
    args = ('train', 't.csv', '--no-pretrained', '--epochs-lm', 1, '--epochs', 12, '--seed', 3)
    killed_after('k.tnb.training/model/0.json', *args, '--out', 'k.tnb')
    code, _, err = run(capsys, *args[:-2], '--seed', 4, '--out', 'k.tnb')
    assert code==2 and 'holds the beginning of another training (seed was 3 and is 4)' in err and '--fresh' in err
    code, _, err = run(capsys, *args, '--out', 'k.tnb')
    assert code==0 and 'going on with the training that was interrupted' in err and 'language model: all layers' not in err
    assert not Path('k.tnb.training').exists()
    assert run(capsys, *args, '--out', 'whole.tnb')[0]==0
    assert same(weights('k.tnb'), weights('whole.tnb'))

def test_fresh_begins_anew(capsys):
    table('t.csv', topics(40))
    folder = Path('m.tnb.training')
    (folder/'model').mkdir(parents=True)
    (folder/'model'/'0.tnb').touch()
    (folder/'run.json').write_text('{"settings": {"seed": 5}}')
    assert train(capsys, 't.csv', '--epochs', 1)[0]==2
    code, _, err = train(capsys, 't.csv', '--epochs', 1, '--fresh')
    assert code==0 and 'going on' not in err and not folder.exists()

def test_a_diverged_training_leaves_nothing(capsys):
    table('t.csv', topics(40))
    code, _, err = train(capsys, 't.csv', '--lr', 1e9, '--epochs', 2)
    assert code==1 and 'the training diverged' in err and not Path('m.tnb').exists() and not Path('m.tnb.training').exists()

def test_a_temperature_from_enough_texts(capsys):
    table('t.csv', topics(240))
    for share, fitted in ((.5, True), (.1, False)):
        code, out, err = train(capsys, 't.csv', '--epochs', 1, '--valid-pct', share)
        assert code==0 and ('a temperature of' in err)==fitted and (open_model('m.tnb').temperature!=1)==fitted
        assert ('these texts also chose the best epoch' in err)==fitted
