"The package as people get it: small enough, whole, and of use in an empty folder without a network"
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WEIGHTS = {'textnb/pretrained/english_small_forward.tnb', 'textnb/pretrained/english_small_backward.tnb'}

def sources(to):
    "A copy of what belongs to the package, without the rest of the checkout"
    shutil.copytree(ROOT/'textnb', to/'textnb', ignore=shutil.ignore_patterns('__pycache__'))
    for o in 'setup.py', 'settings.ini', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE': shutil.copy(ROOT/o, to)

def call(*args, cwd, **env):
    "What `args` print, in a process that knows nothing of the checkout and has no network"
    dead = dict(http_proxy='http://127.0.0.1:9', https_proxy='http://127.0.0.1:9', PIP_NO_INDEX='1', PIP_DISABLE_PIP_VERSION_CHECK='1')
    own = {k:v for k,v in os.environ.items() if k not in ('PYTHONPATH', 'NO_PROXY', 'no_proxy')}
    res = subprocess.run([str(o) for o in args], cwd=cwd, capture_output=True, text=True, env=own|dead|env, timeout=180)
    assert res.returncode==0, res.stderr[-3000:]
    return res.stdout

@pytest.fixture(scope='module')
def sdist(tmp_path_factory):
    "The sdist of the sources"
    top, out = tmp_path_factory.mktemp('src'), tmp_path_factory.mktemp('sdist')
    sources(top)
    call(sys.executable, '-c', 'import sys, setuptools.build_meta as b; b.build_sdist(sys.argv[1])', out, cwd=top)
    return next(out.glob('*.tar.gz'))

@pytest.fixture(scope='module')
def wheel(sdist, tmp_path_factory):
    "The wheel that pip builds from the sdist, with the build tools that are here"
    out = tmp_path_factory.mktemp('wheel')
    call(sys.executable, '-m', 'pip', 'wheel', sdist, '--no-deps', '--no-build-isolation', '-w', out, cwd=out)
    return next(out.glob('*.whl'))

def test_the_wheel_is_small_and_has_both_directions(sdist, wheel):
    "At most 30 MB, of which at most 24 are weights, each file as it is in the sources"
    assert wheel.stat().st_size<=30e6 and sdist.stat().st_size<=30e6
    with zipfile.ZipFile(wheel) as z:
        assert {o for o in z.namelist() if o.startswith('textnb/pretrained/')}==WEIGHTS
        assert sum(z.getinfo(o).file_size for o in WEIGHTS)<=24e6
        for o in WEIGHTS: assert z.read(o)==(ROOT/o).read_bytes()
    with tarfile.open(sdist) as t: assert {o.partition('/')[2] for o in t.getnames() if o.endswith('.tnb')}==WEIGHTS

USED = '''
import json, socket
asked = []
def refuse(*args, **kwargs):
    asked.append(1)
    raise OSError('no network')
socket.create_connection = socket.socket.connect = refuse
import pandas as pd
import textnb
from textnb.all import *
from textnb.learn import list_pretrained
df = pd.DataFrame(dict(text=['a lovely film','a good play','a dull film','a bad play']*4, label=['pos','pos','neg','neg']*4))
res = dict(home=textnb.__file__, names=list(list_pretrained().name))
for way in (False, True):
    data = TextClasDataBunch.from_df('.', df, df[:4], text_cols='text', label_cols='label', bs=4, min_freq=1, backwards=way)
    learn = text_classifier_learner(data, AWD_LSTM, config='small', pretrained=True, silent=True)
    res[f'source {way}'] = learn.load_report.source, learn.load_report.words.known
learn.fit(1, 1e-2)
res['sum'] = float(learn.predict('a lovely play')[2].sum())
res['asked'] = len(asked)
try: text_classifier_learner(data, AWD_LSTM, silent=True)
except Exception as e: res['full'] = str(e)
print(json.dumps(res))
'''

def test_an_installed_wheel_is_used_without_a_network(wheel, tmp_path):
    "In an empty folder, with the packages that it requires and nothing of the checkout"
    site, home = tmp_path/'site', tmp_path/'home'
    home.mkdir()
    call(sys.executable, '-m', 'pip', 'install', wheel, '--no-deps', '--no-compile', '--target', site, cwd=home)
    (home/'used.py').write_text(USED)
    res = json.loads(call(sys.executable, 'used.py', cwd=home, PYTHONPATH=str(site), HOME=str(home), XDG_DATA_HOME=str(home), XDG_CACHE_HOME=str(home)).splitlines()[-1])
    assert Path(res['home']).is_relative_to(site)
    assert res['names']==['english_small_backward','english_small_forward']
    assert res['source False']==['english_small_forward.tnb', 1.] and res['source True']==['english_small_backward.tnb', 1.]
    assert res['asked']==0 and abs(res['sum']-1)<1e-5
    for o in ('cannot be had', 'english_small_forward', "config='small'", 'pretrained=False'): assert o in res['full'], o
