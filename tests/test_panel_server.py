"`textnb panel` as a server: who is let in, one kernel for all, and nothing that outlives the command"
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytest.importorskip('voila')
psutil = pytest.importorskip('psutil')
pytestmark = pytest.mark.skipif(os.name=='nt', reason='signals and process groups of POSIX')

PAGE = '''
import sys
from types import SimpleNamespace
from textnb.command import CLIError, serve_page
try: sys.exit(serve_page(sys.argv[1], SimpleNamespace(port=None, browser=False, theme='light', debug=False)))
except CLIError as e: sys.exit(str(e))
'''

class Server:
    "A page of one line in a process of its own, its address, and all processes below it"
    def __init__(self, folder, source='print("the panel")'):
        own = {f'{o}_DIR': str(folder/o.lower()) for o in ('JUPYTER_CONFIG', 'JUPYTER_DATA', 'JUPYTER_RUNTIME')}
        (folder/'tmp').mkdir()
        self.tmp = folder/'tmp'
        env = {**os.environ, **own, 'IPYTHONDIR': str(folder/'ipython'), 'TMPDIR': str(self.tmp), 'OMP_NUM_THREADS': '1'}
        self.process = subprocess.Popen([sys.executable, '-c', PAGE, source], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.said = self.process.stderr.readline()
        found = re.search(r'http://(127\.0\.0\.1):(\d+)/\?token=([\w-]+)', self.said)
        assert found, self.said+self.process.stderr.read()
        self.port,self.token = int(found[2]),found[3]

    def get(self, path='/', host=None, method='GET', **headers):
        "Status, headers and text of an answer"
        c = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
        try:
            c.putrequest(method, path, skip_host=True)
            for k,v in {'Host': host or f'127.0.0.1:{self.port}', **{k.replace('_', '-'): v for k,v in headers.items()}}.items(): c.putheader(k, v)
            c.endheaders()
            r = c.getresponse()
            return r.status,r.headers,r.read().decode('utf-8', 'replace')
        finally: c.close()

    def below(self): return psutil.Process(self.process.pid).children(recursive=True)

    def kernels(self):
        "Those that are not dead"
        alive = [p for p in self.below() if p.status()!=psutil.STATUS_ZOMBIE]
        return [p for p in alive if 'ipykernel' in ' '.join(p.cmdline())]

    def end(self):
        "End everything"
        everybody = []
        try: everybody = self.below()
        except psutil.NoSuchProcess: pass
        self.process.terminate()
        self.process.wait(30)
        self.process.stderr.close()
        for p in everybody:
            try: p.kill()
            except psutil.NoSuchProcess: pass

@pytest.fixture(scope='module')
def server(tmp_path_factory):
    "A server for all tests that do not end it"
    s = Server(tmp_path_factory.mktemp('server'))
    yield s
    s.end()

def test_a_token(server):
    "Without the token, or with another one, nothing is given: no page, no file, no kernel; with it, it is, and the cookie does from then on"
    for path in ('/', '/?token=', '/?token=x', f'/?token={server.token}x', f'/?token={server.token[:-1]}', '/voila/static/voila.js', '/voila/files/panel.ipynb', '/api/kernels/00000000-0000-0000-0000-000000000000/channels', '/login', '/voila/api/shutdown/x'):
        assert server.get(path)[0]==403, path
    assert server.get(Cookie=f'textnb-panel-{server.port}=x')[0]==403 and server.kernels()==[]
    status,headers,text = server.get(f'/?token={server.token}')
    assert status==200 and 'the panel' in text and headers['Referrer-Policy']=='no-referrer'
    cookie, = (o for o in headers.get_all('Set-Cookie') if o.startswith('textnb-panel'))
    assert 'HttpOnly' in cookie and 'SameSite=Lax' in cookie
    assert server.get(Cookie=cookie.split(';')[0])[0]==200
    assert len(server.token)>=32

def test_own_hosts(server):
    "Another name of this machine (DNS rebinding) is refused, and so is a page from elsewhere, with the right token too"
    path = f'/?token={server.token}'
    for host in ('evil.com', f'evil.com:{server.port}', f'127.0.0.1.evil.com:{server.port}', 'localhost:1', f'0.0.0.0:{server.port}', ''):
        assert server.get(path, host=host or ' ')[0] in (400, 403), host
    assert server.get(path, host=f'localhost:{server.port}')[0]==200
    for origin in ('http://evil.com', 'null', f'https://127.0.0.1:{server.port}', 'http://127.0.0.1:1'): assert server.get(path, Origin=origin)[0]==403
    assert server.get(path, Origin=f'http://127.0.0.1:{server.port}')[0]==200

def test_web_sockets(server):
    "A web socket to the kernel is opened for our page alone"
    server.get(f'/?token={server.token}')
    kernel = re.search(r'"kernelId": *"([\w-]+)"', server.get(f'/?token={server.token}')[2])[1]
    upgrade = dict(Connection='Upgrade', Upgrade='websocket', Sec_WebSocket_Version='13', Sec_WebSocket_Key='x3JJHMbDL1EzLkh9GBhXDw==')
    path = f'/api/kernels/{kernel}/channels'
    cookie = f'textnb-panel-{server.port}={server.token}'
    def ask(**more):
        c = http.client.HTTPConnection('127.0.0.1', server.port, timeout=20)
        c.request('GET', path, headers={k.replace('_', '-'): v for k,v in {**upgrade, **more}.items()})
        status = c.getresponse().status
        c.close()
        return status
    assert ask()==403 and ask(Origin='http://evil.com', Cookie=cookie)==403 and ask(Cookie='x=y')==403
    assert ask(Origin=f'http://127.0.0.1:{server.port}', Cookie=cookie)==101

def test_one_kernel(server):
    "Every visitor gets the same page of the same kernel; a closed tab does not end it, and one that has died is replaced"
    path = f'/?token={server.token}'
    texts = {server.get(path)[2] for _ in range(4)}
    kernel, = server.kernels()
    assert len(texts)==1
    token = f'?token={server.token}'
    name = re.search(r'"kernelId": *"([\w-]+)"', texts.pop())[1]
    assert server.get(f'/voila/api/shutdown/{name}{token}', method='POST')[0] in (204, 403) and server.get(f'/api/kernels/{name}{token}', method='DELETE')[0]==403
    assert [p.pid for p in server.kernels()]==[kernel.pid]
    assert server.get(f'/other{token}')[0]==404
    for _ in range(3):
        kernel.kill()
        until = time.time()+20
        while server.kernels() in ([], [kernel]) and time.time()<until: # it takes its threads a moment to end
            assert server.get(path)[0]==200
        replaced, = server.kernels()
        assert replaced.pid!=kernel.pid
        kernel = replaced

def test_two_tabs(browser, tmp_path):
    "Two tabs and a reload show one live page: what is typed into one stands in the other, also when the first is closed"
    server = Server(tmp_path, 'import ipywidgets\nipywidgets.Text(description="words", continuous_update=True)')
    try:
        ctx = browser.new_context()
        one,two = ctx.new_page(),ctx.new_page()
        bad = []
        for page in (one, two): page.on('pageerror', lambda e: bad.append(str(e)))
        one.goto(f'http://127.0.0.1:{server.port}/?token={server.token}', timeout=90_000)
        field = one.locator('.widget-text input')
        field.wait_for(timeout=60_000)
        two.goto(f'http://127.0.0.1:{server.port}/', timeout=90_000)
        two.locator('.widget-text input').wait_for(timeout=60_000)
        field.fill('a fine film')
        from playwright.sync_api import expect
        expect(two.locator('.widget-text input')).to_have_value('a fine film', timeout=20_000)
        one.close()
        two.reload()
        expect(two.locator('.widget-text input')).to_have_value('a fine film', timeout=60_000)
        assert len(server.kernels())==1 and bad==[]
        ctx.close()
    finally: server.end()

@pytest.mark.parametrize('how', ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGKILL'])
def test_nothing_is_left(tmp_path, how):
    "However the command ends, server and kernel end as well, and its folder goes"
    server = Server(tmp_path)
    everybody = []
    try:
        assert server.get(f'/?token={server.token}')[0]==200
        everybody = server.below()
        assert len(server.kernels())==1 and len(everybody)>=2 and list(server.tmp.glob('textnb-panel-*'))
        server.process.send_signal(getattr(signal, how))
        code = server.process.wait(30)
        assert code=={'SIGTERM': 143, 'SIGHUP': 129, 'SIGINT': 0, 'SIGKILL': -9}[how]
        _,alive = psutil.wait_procs(everybody, timeout=20)
        assert alive==[]
        end = time.monotonic()+5
        while list(server.tmp.glob('textnb-panel-*')) and time.monotonic()<end: time.sleep(.1)
        assert list(server.tmp.glob('textnb-panel-*'))==[]
    finally:
        server.process.stderr.close()
        for p in everybody:
            try: p.kill()
            except psutil.NoSuchProcess: pass

def test_no_server(monkeypatch, tmp_path):
    "A server that does not start is said with its own words, and leaves nothing"
    from types import SimpleNamespace
    from textnb.command import CLIError, panel_page
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    monkeypatch.setattr(panel_page, 'server_command', lambda command, mark, folder: [sys.executable, '-c', 'raise SystemExit("no port")'])
    with pytest.raises(CLIError, match='Voila did not start: no port'): panel_page.serve_page('1', SimpleNamespace(port=None, browser=False, theme='light', debug=False))
    assert list(Path(tmp_path).iterdir())==[]
