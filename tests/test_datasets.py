"Corner cases of textnb.text.datasets: broken downloads, wrong files, shared caches, no network"
from pathlib import Path
import errno, hashlib, importlib.util, io, os, subprocess, sys, tarfile, textwrap, threading, time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import pandas as pd, pytest
from textnb.text import datasets, downloads
from textnb.base import *
from textnb.text import *

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        s,rng = self.server,self.headers.get('Range')
        s.log.append((rng, self.headers.get('If-Range')))
        if s.status: return self.send_error(s.status)
        pos = int(rng[6:-1]) if rng and s.ranges and self.headers.get('If-Range') in (None, s.tag) else 0
        if pos and pos>=len(s.body):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(s.body)}')
            self.send_header('Content-Length', '0')
            return self.end_headers()
        self.send_response(206 if pos else 200)
        if pos: self.send_header('Content-Range', f'bytes {pos}-{len(s.body)-1}/{len(s.body)}')
        if s.length: self.send_header('Content-Length', str(len(s.body)-pos))
        if s.tag: self.send_header('ETag', s.tag)
        self.end_headers()
        time.sleep(s.wait)
        self.wfile.write(s.body[pos:pos+s.most])

    def log_message(self, *args): self.server.seen = args

@pytest.fixture
def server(monkeypatch):
    "A server on this machine; set `body`, `most` (bytes a request), `ranges`, `tag`, `length`, `status`, `wait`"
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    s = ThreadingHTTPServer(('127.0.0.1',0), Handler)
    s.body,s.most,s.ranges,s.tag,s.length,s.status,s.wait,s.log,s.url = b'',10**9,True,'"1"',True,None,0,[],f'http://127.0.0.1:{s.server_port}'
    threading.Thread(target=s.serve_forever, kwargs=dict(poll_interval=.01), daemon=True).start()
    yield s
    s.shutdown()
    s.server_close()

@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('TEXTNB_HOME', str(tmp_path/'home'))
    monkeypatch.setenv('TEXTNB_PROGRESS', '0')
    monkeypatch.chdir(tmp_path)
    return tmp_path/'home'

def tgz(**files):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode='w:gz') as t:
        for k,v in files.items():
            m = tarfile.TarInfo(k.replace('__','/'))
            m.size = len(v)
            t.addfile(m, io.BytesIO(v))
    return b.getvalue()

def names(d): return sorted(p.name for p in Path(d).iterdir() if not p.name.endswith('.lock'))
body = os.urandom(100_000)

# ---- downloads

def test_resumes_after_each_break(server, tmp_path):
    server.body,server.most = body,30_000
    assert download_url(server.url+'/a', tmp_path/'a').read_bytes() == body
    assert server.log == [(None,None)] + [(f'bytes={n}-','"1"') for n in (30_000,60_000,90_000)]
    assert names(tmp_path) == ['a']

def test_goes_on_with_the_part_of_an_earlier_call(server, tmp_path):
    server.body,server.most,server.ranges = body,30_000,False
    with pytest.raises(ConnectionError, match='30,000 bytes that came are kept'): download_url(server.url+'/a', tmp_path/'a')
    assert names(tmp_path) == ['a.part','a.part.tag']
    server.most,server.ranges = 10**9,True
    server.log.clear()
    assert download_url(server.url+'/a', tmp_path/'a').read_bytes() == body and server.log == [('bytes=30000-','"1"')]

def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path):
    server.body,server.most,server.ranges = body,30_000,False
    with pytest.raises(ConnectionError): download_url(server.url+'/a', tmp_path/'a')
    server.body,server.most,server.ranges,server.tag = body[::-1],10**9,True,'"2"'
    assert download_url(server.url+'/a', tmp_path/'a').read_bytes() == body[::-1]

@pytest.mark.parametrize('part', [100_000, 150_000])
def test_a_part_that_is_whole_or_too_long(server, tmp_path, part):
    server.body = body
    (tmp_path/'a.part').write_bytes((body+body)[:part])
    assert download_url(server.url+'/a', tmp_path/'a').read_bytes() == body

def test_a_server_without_lengths_or_tags(server, tmp_path):
    server.body,server.length,server.tag = body,False,None
    assert download_url(server.url+'/a', tmp_path/'a', size=len(body)).read_bytes() == body

@pytest.mark.parametrize('status', [403, 404, 500])
def test_errors_of_the_server_are_named_with_the_cure(server, tmp_path, status):
    server.status = status
    with pytest.raises(ConnectionError, match=rf'(?s){status}.*put the file, unchanged, into {tmp_path} as a') as e: download_url(server.url+'/a', tmp_path/'a')
    assert server.url+'/a' in str(e.value) and len(server.log) == 1 and names(tmp_path) == []

def test_wrong_content_is_not_kept(server, tmp_path):
    server.body = b'<html>Please log in to the hotel network</html>'
    with pytest.raises(ArchiveError, match='size is 47, expected 100'): download_url(server.url+'/a', tmp_path/'a', size=100)
    with pytest.raises(ArchiveError, match='MD5'): download_url(server.url+'/a', tmp_path/'a', size=47, md5='x')
    assert names(tmp_path) == []

def test_full_disk_while_downloading(server, tmp_path, monkeypatch):
    "Bad input: a full disk; what is there stays, and the message says which place is full"
    server.body = body
    class Full(io.FileIO):
        def write(self, b): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(downloads, 'open', lambda p, mode: Full(p, mode.replace('b','')) if str(p).endswith('.part') else open(p, mode), raising=False)
    with pytest.raises(OSError, match='a.part: make room') as e: download_url(server.url+'/a', tmp_path/'a')
    assert e.value.errno == errno.ENOSPC and not (tmp_path/'a').exists()

def test_full_disk_while_extracting(server, home, monkeypatch):
    "The data set that was there stays, nothing half is left, and the message names the folder and the room"
    server.body = tgz(s__a=b'1')
    path = untar_data(server.url+'/s')
    def full(archive, dest):
        (dest/'half').write_text('half')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(datasets, 'safe_extract', full)
    with pytest.raises(OSError, match=rf'No space left.*{path} was not made.*MB are free in .*make room'): untar_data(server.url+'/s', force_download=True)
    assert sorted(os.listdir(home/'data'))==['s'] and names(path)==['a']

@pytest.mark.skipif(os.name=='nt', reason='kills of Unix')
@pytest.mark.parametrize('step', ['first', 'second'])
def test_killed_while_a_data_set_is_replaced(tmp_path, home, step):
    "Between the two renames the old one is aside: it comes back; after both it goes away"
    (tmp_path/'s.tgz').write_bytes(tgz(s__a=b'1'))
    url = (tmp_path/'s').as_uri()
    path = untar_data(url)
    src = f'''
        import os, signal
        from textnb.base import files
        from textnb.text import untar_data
        real = os.replace
        def replace(a, b):
            done = real(a, b)
            if str({'b' if step=='first' else 'a'}).endswith({dict(first='.s.old', second='/new/s')[step]!r}): os.kill(os.getpid(), signal.SIGKILL)
            return done
        os.replace = replace
        untar_data({url!r}, force_download=True)
    '''
    assert subprocess.run([sys.executable, '-c', textwrap.dedent(src)]).returncode==-9
    assert '.s.old' in os.listdir(home/'data') and path.exists()==(step=='second')
    (tmp_path/'s.tgz').unlink()
    (home/'archive'/'s.tgz').unlink()
    assert names(untar_data(url))==['a'] and os.listdir(home/'data')==['s']
    (tmp_path/'s.tgz').write_bytes(tgz(s__b=b'2'))
    assert names(untar_data(url, force_download=True))==['b'] and os.listdir(home/'data')==['s']

def test_file_addresses(tmp_path):
    (tmp_path/'set.tgz').write_bytes(tgz(set__a=b'1'))
    assert names(untar_data((tmp_path/'set').as_uri())) == ['a']
    with pytest.raises(ConnectionError, match='none.tgz'): untar_data((tmp_path/'none').as_uri())

# ---- untar_data

def test_layouts(server, home, tmp_path):
    "A single top folder of any name becomes the data set's folder; loose files are put into one"
    server.body = tgz(other__a=b'1')
    assert untar_data(server.url+'/one') == home/'data'/'one' and names(home/'data'/'one') == ['a']
    server.body = tgz(a=b'1', b=b'2')
    assert names(untar_data(server.url+'/two.tar.gz')) == ['a','b']
    assert untar_data(server.url+'/w', data=False) == home/'models'/'w'
    assert untar_data(server.url+'/x', dest=tmp_path/'d', fname=tmp_path/'kept.tgz') == tmp_path/'d'/'x' and (tmp_path/'kept.tgz').exists()
    assert names(home/'archive') == ['one.tgz','two.tar.gz','w.tgz'] and names(home/'data') == ['one','two']

def test_second_call_asks_nobody_and_force_download_does(server):
    server.body = tgz(s__a=b'1')
    p = untar_data(server.url+'/s')
    n = len(server.log)
    assert untar_data(server.url+'/s') == p and len(server.log) == n
    server.body = tgz(s__b=b'2')
    assert names(untar_data(server.url+'/s', force_download=True)) == ['b'] and len(server.log) == n+1

def test_a_folder_in_the_current_directory_is_preferred(tmp_path):
    (tmp_path/'data'/'imdb_sample').mkdir(parents=True)
    assert untar_data(URLs.IMDB_SAMPLE) == tmp_path/'data'/'imdb_sample'

def test_a_file_put_there_by_hand_is_used_and_checked(home, monkeypatch):
    good = tgz(imdb_sample__texts=b'x')
    (Config.archive_path()/'imdb_sample.tgz').write_bytes(good[:-9])
    monkeypatch.setitem(datasets._checks, 'imdb_sample', (len(good), None))
    with pytest.raises(ArchiveError, match=r'imdb_sample.tgz is not the file.*expected'): untar_data(URLs.IMDB_SAMPLE)
    (Config.archive_path()/'imdb_sample.tgz').write_bytes(good)
    assert names(untar_data(URLs.IMDB_SAMPLE)) == ['texts']

@pytest.mark.parametrize('cut', [10, 60])
def test_a_damaged_archive_leaves_nothing(server, home, cut):
    "Bad input: a truncated archive"
    server.body = tgz(s__a=os.urandom(300))[:-cut]
    with pytest.raises(ArchiveError, match='s.tgz is truncated'): untar_data(server.url+'/s')
    assert names(home/'data') == []
    server.body = tgz(s__a=b'1')
    assert names(untar_data(server.url+'/s', force_download=True)) == ['a']

def test_a_hostile_archive_leaves_nothing(server, home, tmp_path):
    "Bad input: extraction refuses outside paths"
    server.body = tgz(**{'ok':b'1', '..__..__evil':b'2'})
    with pytest.raises(ArchiveError, match='refusing to extract'): untar_data(server.url+'/s')
    assert names(home/'data') == [] and not list(tmp_path.rglob('evil'))

def test_failing_to_rebuild_keeps_the_old_folder(server, home):
    server.body = tgz(s__a=b'1')
    p = untar_data(server.url+'/s')
    server.body = b'no archive'
    with pytest.raises(ArchiveError): untar_data(server.url+'/s', force_download=True)
    assert names(p) == ['a'] and names(home/'data') == ['s']

def test_many_at_once_download_once(server):
    "A cache that others share: threads here, which take the same lock as processes do"
    server.body,server.wait = tgz(s__a=b'1'),.1
    with ThreadPoolExecutor(6) as ex: ps = list(ex.map(lambda _: untar_data(server.url+'/s'), range(6)))
    assert len(set(ps)) == 1 and len(server.log) == 1 and names(ps[0]) == ['a']

def test_two_processes_download_once(server, home):
    server.body,server.wait = tgz(s__a=b'1'),.5
    src = 'import sys; from textnb.text import untar_data; print(sorted(p.name for p in untar_data(sys.argv[1]).iterdir()))'
    ps = [subprocess.Popen([sys.executable, '-c', src, server.url+'/s'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [p.communicate(timeout=60)[0] for p in ps] == ["['a']\n"]*2 and len(server.log) == 1

# ---- pypi:

def fake_sdist():
    def part(n): return b'\r\n'.join(b'%d\t%.1f\t%s "quoted" text %d' % (i, (i%5)-2, n, i) for i in range(40))
    inner = tgz(**{f'hutto_ICWSM_2014__{v}_GroundTruth.txt':part(k.encode()) for k,v in datasets._snippets.items()})
    return tgz(**{'vaderSentiment-3.3.2__additional_resources__hutto_ICWSM_2014.tar.gz':inner})

@pytest.fixture
def snippets_url(monkeypatch):
    "The address of an sdist made here in place of the real one"
    sha = hashlib.sha256(fake := fake_sdist()).hexdigest()
    url = f'pypi:vaderSentiment==3.3.2#sha256={sha}'
    monkeypatch.setattr(URLs, 'MOVIE_SNIPPETS', url)
    return url,fake

def test_movie_snippets_from_a_file_put_there_by_hand(snippets_url, home):
    (Config.archive_path()/'vaderSentiment-3.3.2.tar.gz').write_bytes(snippets_url[1])
    df = movie_snippets()
    assert list(df.columns) == ['text','rating','label','is_valid'] and len(df) == 40 and df.is_valid.sum() == 4
    assert df.text[3] == 'movie_snippets "quoted" text 3' and (df.label=='pos').tolist() == (df.rating>0).tolist()
    assert names(home/'data'/'movie_snippets') == sorted(f'{k}.csv' for k in datasets._snippets)

def test_a_tampered_sdist_is_refused(snippets_url):
    (Config.archive_path()/'vaderSentiment-3.3.2.tar.gz').write_bytes(snippets_url[1][:-1]+b'x')
    with pytest.raises(ArchiveError, match='SHA-256'): untar_data(URLs.MOVIE_SNIPPETS)

@pytest.fixture
def index(tmp_path, monkeypatch):
    "A folder that pip takes for the package index; nothing outside it is asked"
    for k in list(os.environ):
        if k.startswith('PIP_'): monkeypatch.delenv(k)
    (tmp_path/'index').mkdir()
    for k,v in dict(NO_INDEX='1', CONFIG_FILE=os.devnull, FIND_LINKS=str(tmp_path/'index'), DISABLE_PIP_VERSION_CHECK='1').items(): monkeypatch.setenv(f'PIP_{k}', v)
    return tmp_path/'index'

def test_no_package_index_names_the_file_and_the_folder(index, home):
    "Offline: pip is pointed at an empty folder, so that no network is touched"
    with pytest.raises(ConnectionError, match=r'(?s)pip could not fetch vaderSentiment==3.3.2.*archive as vaderSentiment-3.3.2.tar.gz'): movie_snippets()
    assert names(home/'archive') == [] and names(home/'data') == []

@pytest.mark.skipif(not importlib.util.find_spec('setuptools'), reason='pip looks into an sdist with setuptools')
def test_pip_fetches_an_sdist(index, home):
    setup = b"from setuptools import setup\nsetup(name='tinyset', version='1.0', py_modules=[])"
    data = tgz(**{'tinyset-1.0__setup.py':setup, 'tinyset-1.0__PKG-INFO':b'Metadata-Version: 2.1\nName: tinyset\nVersion: 1.0\n', 'tinyset-1.0__texts.txt':b'one'})
    (index/'tinyset-1.0.tar.gz').write_bytes(data)
    p = untar_data(f'pypi:tinyset==1.0#sha256={hashlib.sha256(data).hexdigest()}')
    assert p == home/'data'/'tinyset-1.0' and (p/'texts.txt').read_text() == 'one' and names(home/'archive') == ['tinyset-1.0.tar.gz']

def test_pip_runs_nothing_of_a_wrong_sdist(index, tmp_path, home):
    "The sum is compared before pip looks into the file, and looking into an sdist means running its setup.py"
    evil = f"open({str(tmp_path/'evil')!r}, 'w')".encode()
    (index/'tinyset-1.0.tar.gz').write_bytes(tgz(**{'tinyset-1.0__setup.py':evil, 'tinyset-1.0__PKG-INFO':b'Metadata-Version: 2.1\nName: tinyset\nVersion: 1.0\n'}))
    with pytest.raises(ArchiveError, match='tinyset==1.0 that pip found is not the one'): untar_data('pypi:tinyset==1.0#sha256='+'0'*64)
    assert not (tmp_path/'evil').exists() and names(home/'archive') == [] and names(home/'data') == []

# ---- the generated sets

@pytest.mark.parametrize('name', ['HUMAN_NUMBERS','PYTHON_DOCS'])
def test_generated_sets_are_the_same_every_time(name):
    p = untar_data(getattr(URLs, name))
    a = {f.name:f.read_bytes() for f in p.iterdir()}
    b = {f.name:f.read_bytes() for f in untar_data(getattr(URLs, name), force_download=True).iterdir()}
    assert a == b and a

def test_human_numbers_files():
    p = untar_data(URLs.HUMAN_NUMBERS)
    trn,val = [(p/f'{k}.txt').read_bytes().decode().splitlines() for k in ('train','valid')]
    assert (len(trn),len(val)) == (7999,1999) and all(l.endswith(' ') for l in trn+val)
    assert trn[-1] == 'seven thousand nine hundred ninety nine ' and val[0] == 'eight thousand one ' and val[-1] == 'nine thousand nine hundred ninety nine '

def test_docstrings_are_masked_and_import_nothing():
    src = '''
        import sys
        from textnb.text import docstrings
        before = set(sys.modules)
        df = docstrings()
        print(sorted(o for o in set(sys.modules)-before if o.split('.')[0] in ('torch','pandas','numpy','matplotlib')))
        print(df.text.str.lower().str.contains('torch|numpy|pandas|matplotlib').sum(), len(df)>4000, df.label.nunique(), df.text.is_unique, df.isna().sum().sum())
    '''
    res = subprocess.run([sys.executable, '-c', textwrap.dedent(src)], capture_output=True, text=True, timeout=120)
    assert 'matplotlib' not in res.stdout.splitlines()[0] and res.stdout.splitlines()[1] == '0 True 4 True 0', res.stdout+res.stderr

def test_split_depends_on_the_text_alone():
    ts = [f'text {i}' for i in range(500)]
    held = {t for t,h in zip(ts, hash_split(ts)) if h}
    assert len(held) == 50 and {t for t,h in zip(ts[::-1], hash_split(ts[::-1])) if h} == held
    assert sorted(held)[:3] == ['text 107','text 113','text 121']
    assert hash_split([]) == [] and hash_split(['\ud800','a'], pct=1) == [True,True]

def test_csv_of_a_set_keeps_texts_that_look_like_missing_values(snippets_url):
    (Config.archive_path()/'vaderSentiment-3.3.2.tar.gz').write_bytes(snippets_url[1])
    p = untar_data(URLs.MOVIE_SNIPPETS)/'movie_snippets.csv'
    pd.DataFrame(dict(text=['NA','null'], rating=[1.,0.], label=['pos','neg'], is_valid=[False,True])).to_csv(p, index=False)
    assert movie_snippets().text.tolist() == ['NA','null']
