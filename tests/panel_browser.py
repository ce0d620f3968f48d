"What the tests share that look at panels in a real browser: servers, started in a folder of their own and ended with all that they started, and what axe-core finds"
import os
import signal
import socket
import subprocess
import time
from urllib.request import urlopen

import pytest

def free_port():
    "A port that nobody listens on"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def serve(folder, cmd, ready, env=os.environ, limit=60):
    "Start the server `cmd` in `folder` with settings of its own; gives its process once `ready`, an address or a function that finds it in what the server says, answers"
    own = {f'{o}_DIR': str(folder/o.lower()) for o in ('JUPYTER_CONFIG', 'JUPYTER_DATA', 'JUPYTER_RUNTIME')}
    env = {**env, **own, 'IPYTHONDIR': str(folder/'ipython'), 'OMP_NUM_THREADS': '1', 'TEXTNB_PROGRESS': '0'}
    log = folder/'server.log'
    with log.open('wb') as f: p = subprocess.Popen(cmd, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=f, stderr=f, start_new_session=True)
    end = time.monotonic()+limit
    while time.monotonic()<end and p.poll() is None:
        where = ready(log.read_text(errors='replace')) if callable(ready) else ready
        try:
            if where: urlopen(where, timeout=5).close()
        except OSError: where = None
        if where: return p
        time.sleep(.1)
    stop(p)
    raise RuntimeError(f'{" ".join(cmd)} did not start: {log.read_text(errors="replace")[-3000:]}')

def notebook(source):
    "A notebook of one cell, as JSON"
    from textnb.panels import page_files
    return page_files(source)['panel.ipynb']

def write_panel(folder, source, name='panel.ipynb'):
    "The files that Voila needs to show `source`, its notebook under `name`"
    from textnb.panels import page_files
    for k,v in page_files(source).items():
        f = folder/(name if k=='panel.ipynb' else k)
        f.parent.mkdir(parents=True, exist_ok=True)
        f.write_text(v, encoding='utf-8')

def stop(p):
    "End a server and the kernels that it started"
    for s in signal.SIGTERM, signal.SIGKILL:
        try: os.killpg(p.pid, s)
        except ProcessLookupError: break
        try: p.wait(5)
        except subprocess.TimeoutExpired: pass

def serious(page, where='.tnb-panel'):
    "What axe-core finds in the panels of the page and calls serious or critical; a test that asks is skipped where there is no axe-core"
    Axe = pytest.importorskip('axe_playwright_python.sync_playwright').Axe
    found = Axe().run(page, context=where).response['violations']
    return [(o['id'], o['impact'], [n['html'][:200] for n in o['nodes']]) for o in found if o['impact'] in ('serious', 'critical')]
