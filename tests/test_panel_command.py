"`textnb panel`: what it refuses before a server is started, and what each panel is made of"
import pandas as pd
import pytest

from textnb.command import panel_page
from textnb.command import CLIError, free_port, main, table_panel
from textnb.base import set_seed
from textnb.text import TextClasDataBunch, TextLMDataBunch
from textnb.learn import language_model_learner, text_classifier_learner
from textnb.models import AWD_LSTM
from textnb.panels import PANELS, Panel

@pytest.fixture(scope='module')
def work(tmp_path_factory):
    "A model and a table"
    d = tmp_path_factory.mktemp('panel')
    df = pd.DataFrame(dict(text=['a great film', 'an awful film']*10, label=['pos', 'neg']*10))
    df.to_csv(d/'test.csv', index=False)
    set_seed(0)
    data = TextClasDataBunch.from_df(d, df, df, text_cols='text', label_cols='label', bs=4, min_freq=1)
    text_classifier_learner(data, AWD_LSTM, config=dict(emb_sz=8, n_hid=8, n_layers=1), pretrained=False, silent=True).export('model.tnb')
    lm = TextLMDataBunch.from_df(d, df, df[:4], text_cols='text', bs=2, bptt=5, min_freq=1)
    language_model_learner(lm, AWD_LSTM, config=dict(emb_sz=8, n_hid=8, n_layers=1), pretrained=False, silent=True).export('lm.tnb')
    (d/'broken.tnb').write_bytes((d/'model.tnb').read_bytes()[:500])
    return d

@pytest.mark.parametrize('args,words', [
    (['nowhere.tnb'], 'no such file: nowhere.tnb'), (['{d}/broken.tnb'], 'broken.tnb'), (['{d}/test.csv'], 'test.csv'),
    (['{d}/model.tnb', '--panel', 'magic'], "no panel 'magic'; there are: attention, methods, writing"),
    (['{d}/model.tnb', '--panel', 'writing'], "wants a model of the kind 'lm'"), (['{d}/model.tnb', '--panel', 'losses'], 'name it with --data FILE'),
    (['{d}/model.tnb', '--data', '{d}/test.csv'], '--data is for the panels losses and cleaning'),
    (['{d}/lm.tnb', '--panel', 'edits'], "wants a model of the kind 'classifier'"), (['{d}/model.tnb', '--lm', '{d}/lm.tnb'], '--lm is for the panel edits'),
    (['{d}/model.tnb', '--panel', 'edits', '--lm', 'nowhere.tnb'], 'no such file: nowhere.tnb'), (['{d}/model.tnb', '--panel', 'edits', '--lm', '{d}/test.csv'], 'test.csv'),
    (['{d}/model.tnb', '--panel', 'edits', '--lm', '{d}/model.tnb'], "wants a language model, and {d}/model.tnb holds a 'classifier'; `textnb train-lm` writes one"),
    (['{d}/model.tnb', '--panel', 'cleaning', '--data', '{d}/test.csv', '--label-col', 'stars'], "no column 'stars'")])
def test_refused(work, capsys, args, words):
    "One line that names the thing and the cure, and no server"
    assert main(['panel', *[a.format(d=work) for a in args]])==1
    err = capsys.readouterr().err
    assert words.format(d=work) in err and err.count('\n')==1

def test_without_voila(work, capsys, monkeypatch):
    "Voila is an extra: what to install is said"
    monkeypatch.setattr(panel_page, 'installed', lambda m: m!='voila')
    assert main(['panel', str(work/'model.tnb')])==1
    assert 'pip install "textnb[panels]"' in capsys.readouterr().err

def test_ports():
    "A port that is taken is named; without one, a free one is found"
    import socket
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        s.listen()
        with pytest.raises(CLIError, match='is taken'): free_port(s.getsockname()[1])
    assert 8866<=free_port()<8966

def test_source(work, monkeypatch):
    "The code of the page makes the panel, whatever the text holds"
    seen = []
    monkeypatch.setattr(panel_page, 'serve_page', lambda source, args: seen.append(source) or 0)
    text = 'a "great" \'film\'\n</script>\udcff'
    assert main(['panel', str(work/'model.tnb'), '--text', text])==0
    space = {}
    exec(seen[0].replace('\nopen_panel', '\np = open_panel'), space)
    assert space['p'].state['text']==text and space['p'].error is None
    assert main(['panel', str(work/'model.tnb'), '--panel', 'edits', '--lm', str(work/'lm.tnb'), '--text', text])==0
    exec(seen[-1].replace('\nopen_panel', '\np = open_panel'), space)
    assert space['p'].state['text']==text and space['p'].error is None and {o.how for o in space['p'].state['edits']}=={'lm'}
    for name in 'losses', 'cleaning':
        assert main(['panel', str(work/'model.tnb'), '--panel', name, '--data', str(work/'test.csv')])==0
        exec(seen[-1].replace('\ntable_panel', '\np = table_panel'), space)
        assert space['p'].error is None and '20' in repr(space['p'])
    assert (work/'test.csv.journal').exists()

def test_table_with_other_labels(work, tmp_path):
    "A label that the model does not know is named"
    pd.DataFrame(dict(text=['a', 'b'], label=['pos', 'meh'])).to_csv(tmp_path/'t.csv', index=False)
    with pytest.raises(CLIError, match=r'does not know \(meh\); it knows: neg, pos'): table_panel('losses', work/'model.tnb', tmp_path/'t.csv')

def test_every_name_has_a_panel():
    "Each panel that can be opened by name is one, and has a heading of its own"
    assert all(issubclass(o, Panel) for o in PANELS.values())
    assert len({o.title for o in PANELS.values()})==len(PANELS)
