"Corner cases of textnb.base: damaged archives, full disks, hostile archives, global state"
import io, os, pickle, random, re, signal, stat, subprocess, sys, tarfile, textwrap, threading, zipfile
from pathlib import Path
import numpy as np, pytest, torch
from hypothesis import HealthCheck, given, settings, strategies as st
from textnb.base import *

def run(src, *args, **env):
    "Run `src` in a Python of its own"
    return subprocess.run([sys.executable, '-c', textwrap.dedent(src), *map(str, args)], capture_output=True, text=True, env={**os.environ, **env}, timeout=120)

def names(d): return sorted(p.name for p in Path(d).iterdir())

@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('TEXTNB_HOME', str(tmp_path/'home'))
    return tmp_path/'home'

# ---- configuration

def test_config_makes_folders_on_demand(home):
    assert not home.exists()
    assert [f().name for f in (Config.data_path,Config.archive_path,Config.model_path)] == ['data','archive','models']
    assert names(home) == ['archive','data','models']

def test_config_json_moves_a_folder(home, tmp_path):
    save_json(Config.home()/'config.json', {'data_path':str(tmp_path/'big'), 'model_path':'m'})
    assert Config.data_path() == tmp_path/'big' and Config.data_path().is_dir()
    assert Config.model_path() == home/'m' and Config.archive_path() == home/'archive'

@pytest.mark.parametrize('bad', ['[]', '{"data":"x"}', '{"data_path":3}', '{"data_path"'])
def test_config_json_that_is_wrong_is_named(home, bad):
    (Config.home()/'config.json').write_text(bad)
    with pytest.raises(ValueError, match='config.json'): Config.data_path()

def test_home_that_cannot_be_made_names_the_variable(tmp_path, monkeypatch):
    (tmp_path/'file').write_text('')
    monkeypatch.setenv('TEXTNB_HOME', str(tmp_path/'file'/'home'))
    with pytest.raises(OSError, match='TEXTNB_HOME'): Config.home()

def test_full_float32_in_threads():
    "The switch is off while any of several threads is inside, and then as it was; a precision set by PyTorch's newer switches is left alone"
    flags,inside,seen = torch.backends.cudnn,threading.Barrier(3),[]
    def work():
        with full_float32():
            inside.wait(60)
            seen.append(flags.allow_tf32)
            inside.wait(60)
    old = flags.allow_tf32
    try:
        for flags.allow_tf32 in (True,False):
            on = flags.allow_tf32
            ts = [threading.Thread(target=work) for _ in range(3)]
            for t in ts: t.start()
            for t in ts: t.join()
            assert flags.allow_tf32==on and not any(seen)
    finally: flags.allow_tf32 = old
    code = """
        import torch
        from textnb.base import full_float32
        rnn = getattr(torch.backends.cudnn, 'rnn', None)
        if hasattr(rnn, 'fp32_precision'):
            rnn.fp32_precision = 'ieee'
            with full_float32(): assert rnn.fp32_precision=='ieee'
            assert rnn.fp32_precision=='ieee'"""
    assert subprocess.run([sys.executable, '-c', textwrap.dedent(code)]).returncode==0

@pytest.mark.skipif(sys.platform!='linux', reason='the place differs by system')
def test_home_without_the_variable_is_in_the_users_data_folder(tmp_path, monkeypatch):
    monkeypatch.delenv('TEXTNB_HOME', raising=False)
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path))
    assert Config.home() == tmp_path/'textnb'

# ---- files

@pytest.mark.parametrize('err', [OSError(28, 'No space left on device'), KeyboardInterrupt(), ValueError('x'), MemoryError()])
def test_nothing_old_is_lost(tmp_path, err):
    f = tmp_path/'a.txt'
    f.write_text('old')
    with pytest.raises(type(err)):
        with atomic_write(f, 'w') as o:
            o.write('new'*10000)
            raise err
    assert f.read_text() == 'old' and names(tmp_path) == ['a.txt']

@pytest.mark.skipif(os.name=='nt', reason='needs resource limits')
def test_full_disk_while_saving_an_archive(tmp_path):
    "Bad input: a full disk while saving, nothing old lost. The limit makes the real write fail half-way"
    f = tmp_path/'m.tnb'
    save_archive(f, {'w':torch.arange(4.)}, {'epoch':1})
    res = run('''
        import resource, signal, sys, torch
        from textnb.base import save_archive
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try: save_archive(sys.argv[1], {'w':torch.zeros(100_000)}, {'epoch':2})
        except OSError as e: print(e)
    ''', f)
    assert 'm.tnb was not written, and what was there before is untouched' in res.stdout, res.stderr
    assert load_archive(f).meta == {'epoch':1} and names(tmp_path) == ['m.tnb']

@pytest.mark.skipif(os.name=='nt', reason='needs POSIX signals')
def test_killed_while_saving(tmp_path):
    f = tmp_path/'m.json'
    save_json(f, {'n':1})
    src = '''
        import sys, time
        from textnb.base import atomic_write
        with atomic_write(sys.argv[1]) as o:
            o.write(b'half'); o.flush(); print('there', flush=True); time.sleep(60)
    '''
    with subprocess.Popen([sys.executable, '-c', textwrap.dedent(src), str(f)], stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout.readline() == 'there\n'
        p.send_signal(signal.SIGKILL)
    assert load_json(f) == {'n':1}

@pytest.mark.skipif(os.name=='nt', reason='POSIX permissions and links')
def test_permissions_and_links_stay(tmp_path):
    f,l = tmp_path/'a.txt',tmp_path/'link'
    f.write_text('old')
    f.chmod(0o640)
    l.symlink_to(f)
    with atomic_write(l, 'w') as o: o.write('new')
    assert l.is_symlink() and f.read_text() == 'new' and stat.S_IMODE(f.stat().st_mode) == 0o640
    old = os.umask(0o027)
    try: save_json(tmp_path/'new.json', 1)
    finally: os.umask(old)
    assert stat.S_IMODE((tmp_path/'new.json').stat().st_mode) == 0o640

any_text = st.text(st.characters())
plain = st.none()|st.booleans()|st.integers()|st.floats(allow_nan=False)|any_text
json_vals = st.recursive(plain, lambda c: st.lists(c)|st.dictionaries(any_text, c), max_leaves=10)

@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_vals)
def test_json_round_trip_with_any_characters(tmp_path, obj):
    save_json(tmp_path/'a.json', obj)
    assert load_json(tmp_path/'a.json') == obj

# ---- the safe archive

dtypes = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.uint8, torch.bool]
tensor_names = st.text(st.characters(exclude_categories=['Cs']), max_size=20).filter(lambda s: s!='__metadata__')
specs = st.tuples(st.sampled_from(dtypes), st.lists(st.integers(0,4), max_size=3))
file_names = st.from_regex(r'[a-z0-9.]{1,9}', fullmatch=True)

@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(tensor_names, specs, max_size=5), st.dictionaries(any_text, json_vals, max_size=3),
    st.dictionaries(file_names, st.binary(max_size=30), max_size=3))
def test_archive_round_trip(tmp_path, spec, meta, files):
    ts = {k:(torch.rand(s)*100).to(dt) for k,(dt,s) in spec.items()}
    save_archive(tmp_path/'a.tnb', ts, meta, files)
    a = load_archive(tmp_path/'a.tnb')
    assert a.meta == meta and a.files == files and list(sorted(a.tensors)) == sorted(ts)
    assert all(a.tensors[k].dtype==t.dtype and torch.equal(a.tensors[k], t) for k,t in ts.items())

@pytest.fixture(scope='module')
def small(tmp_path_factory):
    f = tmp_path_factory.mktemp('ar')/'a.tnb'
    save_archive(f, {'w':torch.arange(8.)}, {'classes':['neg','pos']}, {'x':b'abc'})
    return f, f.read_bytes()

def same(a): return torch.equal(a.tensors['w'], torch.arange(8.)) and a.meta=={'classes':['neg','pos']} and a.files=={'x':b'abc'} and set(a.tensors)=={'w'}

def test_every_truncation_is_noticed(small):
    "Bad input: a truncated archive"
    f,data = small
    for n in range(0, len(data), 3):
        f.write_bytes(data[:n])
        with pytest.raises(ArchiveError, match='truncated|not a textnb archive|damaged'): load_archive(f)

def test_every_changed_byte_is_noticed_or_harmless(small):
    "Bad input: a tampered archive. A flipped bit gives an ArchiveError, or (in a date, say) the very same contents"
    f,data = small
    caught = 0
    for i in range(len(data)):
        f.write_bytes(data[:i]+bytes([data[i]^(1<<(i%8))])+data[i+1:])
        try: assert same(load_archive(f)), i
        except ArchiveError as e: caught += str(f) in str(e)
    assert caught > len(data)*.7

def test_archive_holds_no_pickle(small):
    f,data = small
    f.write_bytes(data)
    with zipfile.ZipFile(f) as z: assert sorted(z.namelist()) == ['files/x','manifest.json','meta.json','weights.safetensors']

def test_tied_weights_stay_tied(tmp_path):
    emb,dec = torch.nn.Embedding(5,3),torch.nn.Linear(3,5)
    dec.weight = emb.weight
    sd = {f'0.{k}':v for k,v in emb.state_dict().items()} | {f'1.{k}':v for k,v in dec.state_dict().items()}
    save_archive(tmp_path/'a', sd)
    ts = load_archive(tmp_path/'a').tensors
    assert ts['0.weight'] is ts['1.weight'] and torch.equal(ts['0.weight'], emb.weight)
    assert (tmp_path/'a').stat().st_size < 2000

unsavable = [dict(tensors={'a':o}) for o in (np.zeros(2), torch.zeros(2).to_sparse(), torch.zeros(2, device='meta'))] + [dict(meta={'a':object()})]

@pytest.mark.parametrize('bad', unsavable)
def test_what_cannot_be_saved_is_named_and_old_file_kept(tmp_path, bad):
    save_archive(tmp_path/'a', meta={'n':1})
    with pytest.raises(TypeError, match=r"tensors\['a'\]|cannot write object"): save_archive(tmp_path/'a', **bad)
    assert load_archive(tmp_path/'a').meta == {'n':1} and names(tmp_path) == ['a']

def test_a_folder_is_no_archive(tmp_path):
    with pytest.raises(FileNotFoundError, match='not there'): load_archive(tmp_path)

# ---- hostile archives

def make_tar(path, *members, fmt='w:gz'):
    with tarfile.open(path, fmt) as t:
        for name,kind,val in members:
            m = tarfile.TarInfo(name)
            m.type = kind
            if kind==tarfile.REGTYPE: m.size = len(val)
            elif kind in (tarfile.SYMTYPE,tarfile.LNKTYPE): m.linkname = val
            t.addfile(m, io.BytesIO(val) if kind==tarfile.REGTYPE else None)
    return path

F,S,H,D = tarfile.REGTYPE,tarfile.SYMTYPE,tarfile.LNKTYPE,tarfile.DIRTYPE

@pytest.mark.parametrize('members', [
    [('ok',F,b'1'), ('../evil',F,b'x')], [('/tmp/evil',F,b'x')], [('a/../../evil',F,b'x')], [('..',D,None)], [('C:/evil',F,b'x')], [('\\\\host\\evil',F,b'x')], [('..\\evil',F,b'x')],
    [('l',S,'/etc'), ('l/evil',F,b'x')], [('l',S,'..'), ('l/evil',F,b'x')], [('l',S,'/etc/passwd')], [('l',H,'/etc/passwd')], [('l',H,'../../etc/passwd')],
    [('b',S,'a/a/../..'), ('a',S,'.'), ('b/evil',F,b'x')], [('a',S,'b'), ('b',S,'a')], [('dev',tarfile.CHRTYPE,None)], [('pipe',tarfile.FIFOTYPE,None)]])
def test_a_tar_that_leads_outside_is_refused_and_nothing_written(tmp_path, members):
    "Bad input: extraction refuses outside paths"
    ar,dest = make_tar(tmp_path/'a.tgz', *members),tmp_path/'in'/'out'
    with pytest.raises(ArchiveError, match='refusing to extract'): safe_extract(ar, dest)
    assert names(dest) == [] and names(tmp_path) == ['a.tgz','in'] and names(tmp_path/'in') == ['out']

def test_links_to_files_in_the_archive_become_copies(tmp_path):
    ar = make_tar(tmp_path/'a.tar', ('d',D,None), ('d/f',F,b'one'), ('d/s',S,'f'), ('h',H,'d/f'), fmt='w')
    d = safe_extract(ar, tmp_path/'out')
    assert [(d/p).read_bytes() for p in ('d/f','d/s','h')] == [b'one']*3 and not (d/'d/s').is_symlink()

@pytest.mark.skipif(os.name=='nt', reason='needs symlinks')
def test_a_link_that_was_there_before_is_not_followed_outside(tmp_path):
    (tmp_path/'out').mkdir()
    (tmp_path/'out'/'l').symlink_to(tmp_path)
    with pytest.raises(ArchiveError, match='leads it outside'): safe_extract(make_tar(tmp_path/'a.tgz', ('l/evil',F,b'x')), tmp_path/'out')
    assert not (tmp_path/'evil').exists()

@pytest.mark.parametrize('name,mode', [('../evil',0o644), ('/evil',0o644), ('..\\evil',0o644), ('link',stat.S_IFLNK|0o777)])
def test_a_zip_that_leads_outside_is_refused(tmp_path, name, mode):
    with zipfile.ZipFile(tmp_path/'a.zip', 'w') as z:
        z.writestr('ok', 'x')
        info = zipfile.ZipInfo(name)
        info.external_attr,info.create_system = mode<<16,3
        z.writestr(info, '/etc/passwd')
    with pytest.raises(ArchiveError, match='refusing to extract'): safe_extract(tmp_path/'a.zip', tmp_path/'out')
    assert names(tmp_path/'out') == []

@pytest.mark.parametrize('keep', [0, 5, 300, 2500])
@pytest.mark.parametrize('ext,mode', [('tgz','w:gz'), ('tar.xz','w:xz'), ('tar.bz2','w:bz2')])
def test_truncated_downloads_are_named(tmp_path, ext, mode, keep):
    "Bad input: a truncated archive"
    ar = make_tar(tmp_path/f'a.{ext}', ('f',F,random.Random(0).randbytes(3000)), fmt=mode)
    ar.write_bytes(ar.read_bytes()[:keep])
    with pytest.raises(ArchiveError, match='a.'+ext): safe_extract(ar, tmp_path/'out')

@pytest.mark.parametrize('mode', ['w','w:gz','w:xz'])
def test_a_tar_that_is_cut_anywhere_is_noticed(tmp_path, mode):
    "Also between two members, where `tarfile` itself sees nothing wrong"
    ar = make_tar(tmp_path/'a', ('f',F,b'1'*600), ('g',F,random.Random(0).randbytes(600)), fmt=mode)
    data = ar.read_bytes()
    for n in range(0, len(data) if mode!='w' else 3073, 64):
        ar.write_bytes(data[:n])
        with pytest.raises(ArchiveError): safe_extract(ar, tmp_path/'out')
    assert names(tmp_path/'out') == []

# ---- fastai's files

@pytest.mark.parametrize('proto', range(pickle.HIGHEST_PROTOCOL+1))
def test_word_lists_of_any_pickle_protocol(tmp_path, proto):
    f = tmp_path/'itos.pkl'
    f.write_bytes(pickle.dumps(['xxunk','日本','\ud800'], protocol=proto))
    assert load_pickle_list(f) == ['xxunk','日本','\ud800']

@pytest.mark.parametrize('obj', [os.system, {'a':1}, [1], ['a',None], np.array(['a']), Path('x'), None])
def test_other_pickles_are_refused(tmp_path, obj):
    f = tmp_path/'itos.pkl'
    f.write_bytes(pickle.dumps(obj))
    with pytest.raises(ArchiveError, match='itos.pkl'): load_pickle_list(f)

@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0,60), st.binary(max_size=40))
def test_damaged_pickles_never_crash(tmp_path, n, junk):
    f = tmp_path/'itos.pkl'
    f.write_bytes(pickle.dumps(['xxunk','xxpad','the'])[:n]+junk)
    try: res = load_pickle_list(f)
    except ArchiveError as e: assert 'itos.pkl' in str(e)
    else: assert all(isinstance(o, str) for o in res)

@pytest.mark.parametrize('new', [True, False])
def test_torch_files_of_both_formats(tmp_path, new):
    f = tmp_path/'w.pth'
    torch.save({'model':{'a':torch.arange(3)}, 'opt':{'state':{}, 'param_groups':[{'lr':.1}]}}, f, _use_new_zipfile_serialization=new)
    assert load_torch_file(f)['a'].tolist() == [0,1,2]
    f.write_bytes(f.read_bytes()[:-40] if new else f.read_bytes()[:100])
    with pytest.raises(ArchiveError, match='w.pth'): load_torch_file(f)

def test_a_torch_file_with_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self): return (tmp_path/'evil').mkdir, ()
    torch.save({'model':Evil()}, tmp_path/'w.pth')
    with pytest.raises(ArchiveError, match='more than tensors'): load_torch_file(tmp_path/'w.pth')
    assert names(tmp_path) == ['w.pth']
    torch.save([torch.ones(1)], tmp_path/'w.pth')
    with pytest.raises(ArchiveError, match='not a state dict'): load_torch_file(tmp_path/'w.pth')

# ---- global state

def test_seeded_generators_leave_the_global_ones_alone():
    before = get_rng_state()
    a,b = seeded(3),seeded(3)
    assert a.py.random()==b.py.random() and a.np.random()==b.np.random()
    assert torch.equal(torch.rand(4, generator=a.torch), torch.rand(4, generator=b.torch))
    assert get_rng_state() == before
    assert seeded(4).py.random() != seeded(3).py.random()

def test_tensors_come_in_one_order(tmp_path):
    "Messages and reports that list tensors are the same each time"
    names = [f't{i:02}' for i in range(40)]
    save_archive(tmp_path/'a.tnb', tensors={n:torch.zeros(1)+i for i,n in enumerate(reversed(names))})
    assert list(load_archive(tmp_path/'a.tnb').tensors)==names

def test_rng_state_repeats_dropout_after_json(tmp_path):
    x = torch.ones(100)
    with preserve_rng():
        save_json(tmp_path/'rng.json', get_rng_state())
        a = (torch.dropout(x, .5, True), np.random.rand(), random.gauss(0,1), np.random.randn())
        set_seed(0)
        set_rng_state(load_json(tmp_path/'rng.json'))
        b = (torch.dropout(x, .5, True), np.random.rand(), random.gauss(0,1), np.random.randn())
    assert torch.equal(a[0], b[0]) and a[1:] == b[1:]

def test_preserve_rng_also_when_something_fails():
    before = get_rng_state()
    with pytest.raises(ZeroDivisionError):
        with preserve_rng():
            set_seed(1)
            torch.rand(1)/(1//0)
    assert get_rng_state() == before

def test_importing_is_light_and_changes_nothing():
    "Law 8, and the import time: nothing that only plots or shows is loaded, no generator, filter or environment changed"
    res = run('''
        import sys, random, os, warnings, torch, numpy as np, pandas
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), list(warnings.filters), dict(os.environ), torch.get_num_threads()
        import textnb.base, textnb.text.datasets
        after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), list(warnings.filters), dict(os.environ), torch.get_num_threads()
        print(before==after, sorted({'matplotlib','ipywidgets','IPython','sklearn','spacy','nbdev','pip'} & set(sys.modules)))
    ''')
    assert res.stdout == 'True []\n', res.stdout+res.stderr

# ---- showing

@pytest.mark.parametrize('env,shown', [({}, True), ({'TEXTNB_PROGRESS':'0'}, False), ({'IN_TEST':'1'}, False)])
def test_progress_writes_to_stderr_or_nowhere(capsys, monkeypatch, env, shown):
    for k in ('TEXTNB_PROGRESS','IN_TEST'): monkeypatch.delenv(k, raising=False)
    for k,v in env.items(): monkeypatch.setenv(k, v)
    for i in progress(range(3), desc='reading'): print(i)
    res = capsys.readouterr()
    assert res.out == '0\n1\n2\n' and ('reading' in res.err) == shown and bool(res.err) == shown

def test_a_saved_notebook_has_no_dead_bars(tmp_path):
    "A bar that is done leaves nothing in the file, not even its first state"
    nbclient,nbformat = pytest.importorskip('nbclient'),pytest.importorskip('nbformat')
    source = 'from textnb.base import progress\nfor i in progress(range(3), desc="reading"): pass\nbar = progress(total=2, desc="writing")\nbar.update(2)\nbar.close()\nprint("done")'
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata=dict(kernelspec=dict(name='python3', display_name='Python 3', language='python')))
    env = {k:v for k,v in os.environ.items() if k not in ('TEXTNB_PROGRESS','IN_TEST')}
    nbclient.NotebookClient(nb, timeout=100, resources=dict(metadata=dict(path=str(tmp_path)))).execute(env=env)
    said = ' '.join(o.get('text', '')+str(o.get('data', {}).get('text/plain', '')) for o in nb.cells[0].outputs)
    assert said.split()==['done'], nb.cells[0].outputs

@settings(max_examples=100, deadline=None)
@given(st.text(st.characters()), st.text(st.characters()))
def test_tables_hold_nothing_but_text(a, b):
    from html.parser import HTMLParser
    class Tags(HTMLParser):
        def __init__(self):
            super().__init__()
            self.tags,self.text = [],[]
        def handle_starttag(self, tag, attrs): self.tags.append(tag)
        def handle_data(self, data): self.text.append(data)
    p = Tags()
    p.feed(html_table(['c','d'], [[a,b]]))
    assert p.tags == ['div','table','thead','tr','th','th','tbody','tr','td','td']
    want = re.sub('[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]', '\ufffd', a+b)
    if '\r' not in want: assert ''.join(p.text) == 'cd'+want
