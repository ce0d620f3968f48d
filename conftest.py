"What every test shares: one thread (the models are tiny, and on a busy machine two threads wait for each other), no progress bars, and a browser if there is one"
import os
import shutil
import signal

os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('TEXTNB_PROGRESS', '0')
os.environ.setdefault('MPLBACKEND', 'agg')

import pytest  # noqa: E402

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts the tests in the background has them ignore Ctrl-C, which some of them press
if getattr(signal, 'SIGHUP', None) and signal.getsignal(signal.SIGHUP)==signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)  # `nohup` has all children ignore it, and some tests end theirs by it; a handler is not passed on

FLAGS = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'

def find_browser():
    "Chromium's path: the one named in `CHROMIUM`, or the first on the path"
    names = [os.environ.get('CHROMIUM'), 'chromium', 'chromium-browser', 'google-chrome']
    return next(filter(None, (shutil.which(n) for n in names if n)), None)

@pytest.fixture(scope='session')
def chromium():
    "The path of a browser; a test that asks for it is skipped where there is none"
    return find_browser() or pytest.skip('no browser: install chromium, or name one in the variable CHROMIUM')

@pytest.fixture(scope='session')
def browser_type_launch_args(chromium):
    "For pytest-playwright, whose `page` fixture then opens that browser"
    return dict(executable_path=chromium, args=FLAGS.split())

@pytest.fixture
def on_cpu(monkeypatch):
    "Models and batches of this test are on the CPU, for equality bit by bit: some sums on a GPU come in any order"
    from textnb.base import defaults
    monkeypatch.setattr(defaults, 'device', 'cpu')

def pytest_collection_modifyitems(items):
    "Tests with a browser come last: Playwright leaves an event loop running, and panels are tested without one first"
    items.sort(key=lambda o: 'browser' in getattr(o, 'fixturenames', ()))
