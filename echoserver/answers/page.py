"""The page at /.echo, from which a person with a browser sends requests and WebSocket messages and sees the bytes.

One answer with all in it. Whatever comes from outside gets into the page as text (textContent) and never as markup.
"""

import base64
import hashlib

_STYLE = rb"""
:root { color-scheme: light dark; --page: #f6f6f3; --card: #ffffff; --well: #f3f3ef; --line: #dfdfd8; --edge: #85867f;
  --text: #1c1d1b; --quiet: #5c5e58; --accent: #0a6b5b; --on-accent: #ffffff; --bad: #b3261e }
@media (prefers-color-scheme: dark) {
  :root { --page: #121413; --card: #1a1d1c; --well: #111312; --line: #2f3432; --edge: #747b78;
    --text: #e7e9e6; --quiet: #a1a8a4; --accent: #63d2b6; --on-accent: #06251e; --bad: #ff9d92 }
}
* { box-sizing: border-box; margin: 0 }
html { scroll-padding-bottom: 5rem }
[hidden] { display: none !important }
body { background: var(--page); color: var(--text); font: 15px/1.45 system-ui, sans-serif }
pre, code, textarea, .mono { font: 12.5px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
header, main { max-width: 78rem; margin: auto; padding: 0 1rem }
header { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem 1.5rem; padding-block: 1rem }
h1 { display: flex; align-items: center; gap: .5rem; font-size: 1.2rem; letter-spacing: -.01em }
h1 svg { width: 1.6rem; fill: none; stroke: var(--accent); stroke-width: 2; stroke-linecap: round }
h2 { font-size: 1rem }
header code { margin-left: auto; color: var(--quiet) }
nav { display: flex; gap: .25rem }
nav a { padding: .35rem .8rem; border-radius: 2rem; color: var(--quiet); text-decoration: none }
nav a[aria-current] { background: var(--card); color: var(--text); box-shadow: 0 0 0 1px var(--line); font-weight: 600 }
section { display: grid; gap: 1rem; grid-template-columns: minmax(0, 1fr); padding-bottom: 2rem }
@media (min-width: 60rem) { section { grid-template-columns: minmax(0, 9fr) minmax(0, 11fr); align-items: start } }
.card .card { padding: 0; border: 0 }
#some { display: grid; gap: .8rem; grid-template-columns: minmax(0, 1fr) }
.card { display: grid; gap: 1rem; padding: 1.1rem; border: 1px solid var(--line); border-radius: .75rem;
  background: var(--card); grid-template-columns: minmax(0, 1fr) }
.row { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(min(6.6rem, 100%), 1fr)) }
.first { grid-template-columns: 6.5rem minmax(0, 1fr) }
.two { grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)) }
label { display: flex; flex-direction: column; gap: .2rem; font-size: .85rem; font-weight: 600 }
small, .quiet { color: var(--quiet); font-size: .8rem; font-weight: 400 }
label small { order: 1 }
input, select, textarea { width: 100%; min-height: 2.2rem; padding: .35rem .55rem; border: 1px solid var(--edge);
  border-radius: .4rem; background: var(--card); color: inherit; font-weight: 400 }
input, select { font-size: .9rem; font-family: inherit }
textarea { min-height: 4rem; resize: vertical }
input[type=checkbox], input[type=radio] { width: 1.05rem; min-height: 1.05rem; margin: 0; accent-color: var(--accent) }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
:disabled { opacity: .55 }
fieldset { border: 0; padding: 0; min-width: 0 }
legend { padding: 0 0 .5rem; font-weight: 600 }
fieldset > p { margin-top: .5rem }
.check { flex-direction: row; align-items: center; gap: .45rem }
.row .check { align-self: start; margin-top: 2rem }
button { min-height: 2.2rem; padding: .35rem 1rem; border: 1px solid var(--edge); border-radius: .4rem;
  background: none; color: inherit; font: 600 .9rem system-ui, sans-serif; cursor: pointer }
button.main { border-color: var(--accent); background: var(--accent); color: var(--on-accent) }
.bar { display: flex; flex-wrap: wrap; align-items: center; gap: .6rem 1rem }
#asked .bar { position: sticky; bottom: 0; padding-block: .6rem; background: var(--card) }
.bar p { flex: 1 1 12rem }
#clear { margin-left: auto }
.copy { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: .15rem .6rem; align-items: center }
.copy button { min-height: 1.7rem; padding: 0 .2rem; border-color: transparent; color: var(--accent); font-size: .8rem }
.copy pre { grid-column: 1 / -1; max-height: 9rem }
pre { padding: .6rem .75rem; border-radius: .4rem; background: var(--well); overflow: auto; white-space: pre-wrap;
  overflow-wrap: anywhere }
#hex, .binary pre { white-space: pre; overflow-wrap: normal }
@media (max-width: 40rem) { #hex, .binary pre { font-size: 11px } }
#text, #hex { max-height: 32rem; min-height: 3rem }
#said { font-size: 1.6rem; font-weight: 650; letter-spacing: -.02em; overflow-wrap: anywhere; scroll-margin: 6rem }
.bad { color: var(--bad) }
table { width: 100%; border-collapse: collapse; table-layout: fixed }
td, th { padding: .25rem .5rem .25rem 0; border-top: 1px solid var(--line); font-size: .85rem; text-align: left;
  vertical-align: top; overflow-wrap: anywhere }
th { width: 40%; color: var(--quiet); font-weight: 400 }
ol { padding: 0; list-style: none; max-height: 44rem; overflow: auto }
li { padding: .55rem 0 .55rem .8rem; border-left: 3px solid var(--edge); margin-bottom: .5rem }
li.in { border-color: var(--accent) }
li p { display: flex; flex-wrap: wrap; gap: 0 .8rem; align-items: baseline }
li b:empty { display: none }
li pre { margin-top: .35rem; max-height: 14rem }
"""

_SCRIPT = rb"""
'use strict'
const $ = id => document.getElementById(id), KEPT = 65536, SHOWN = 4096, ENTRIES = 500
const UNANSWERED = 'The connection was closed without an answer, nobody is there, or a redirect led to another origin. '
  + 'The browser may have sent the request more than once.'
const base = location.pathname.replace(/\.echo$/, '') // there may be a proxy that puts something before it
const prefix = document.body.dataset.prefix || '' // of the controls' names
const value = id => $(id).value.trim()
const lines = id => $(id).value.split('\n').map(line => line.trim()).filter(Boolean)
const time = ms => ms < 1000 ? Math.round(ms) + ' ms' : (ms / 1000).toFixed(2) + ' s'

function size(bytes) {
  if (bytes < 1024) return bytes + (bytes == 1 ? ' byte' : ' bytes')
  const power = Math.min(3, Math.floor(Math.log2(bytes) / 10))
  return (bytes / 1024 ** power).toFixed(1) + ' ' + ['', 'KiB', 'MiB', 'GiB'][power]
}

function make(tag, text, kind) {
  const made = document.createElement(tag)
  made.textContent = text
  if (kind) made.className = kind
  return made
}

function tell(id, text, bad) {
  $(id).textContent = text
  $(id).classList.toggle('bad', !!bad)
}

function dump(bytes) {
  const width = matchMedia('(max-width: 40rem)').matches ? 8 : 16, rows = []
  for (let at = 0; at < bytes.length; at += width) {
    const row = Array.from(bytes.subarray(at, at + width))
    const hex = row.map(byte => byte.toString(16).padStart(2, '0')).join(' ')
    const text = row.map(byte => byte > 31 && byte < 127 ? String.fromCharCode(byte) : '.').join('')
    rows.push(at.toString(16).padStart(4, '0') + '  ' + hex.padEnd(width * 3) + ' ' + text)
  }
  return rows.join('\n')
}

// --- the request ---

const encode = text => encodeURIComponent(text).replace(/%(3A|2C|2F)/g, decodeURIComponent)
const quote = text => /^[\w.\/:-]+$/.test(text) ? text : "'" + text.replace(/'/g, "'\\''") + "'"

function target() {
  const asked = []
  const ask = (name, value) => asked.push(prefix + (value ? name + '=' + encode(value) : name))
  for (const name of ['echo', 'status', 'delay', 'size', 'rate']) if (value(name)) ask(name, value(name))
  for (const line of lines('header')) ask('header', line)
  if ($('chunked').checked) ask('chunked')
  for (const name of ['close', 'abort']) if (value(name)) ask(name, value(name) == '100' ? '' : value(name))
  const path = value('path').replace(/^\/?/, '/').replace(/#/g, '%23')
  return path + (asked.length ? (path.includes('?') ? '&' : '?') + asked.join('&') : '')
}

function compose() {
  const url = new URL(location.origin + target()), fields = [], method = value('method') || 'GET'
  const bare = /^(get|head)$/i.test(method), content = $('content').value
  for (const line of lines('fields')) {
    const found = /^([!#$%&'*+.^`|~\w-]+):[ \t]*(.*)$/.exec(line)
    if (!found) throw Error('Expected a field line, Name: value, got: ' + line)
    fields.push([found[1], found[2]])
  }
  const body = bare || !content && !/^(post|put)$/i.test(method) ? undefined : content
  const request = new Request(url, {method, headers: fields, body, cache: 'no-store'})
  const kept = fields.filter(([name]) => request.headers.has(name))
  const left = fields.filter(([name]) => !request.headers.has(name)).map(([name]) => name)
  return {request, url, body, bare, fields: kept, left}
}

function curl({request, url, body, fields}) {
  const words = ['curl', request.method == 'HEAD' ? '-I' : '-i']
  if (request.method != 'HEAD' && request.method != (body === undefined ? 'GET' : 'POST'))
    words.push('-X', quote(request.method))
  if (/[[\]{}]/.test(url.href)) words.push('-g')
  for (const [name, value] of fields) words.push('-H', quote(value ? name + ': ' + value : name + ';'))
  if (body !== undefined) {
    if (!fields.some(([name]) => /^content-type$/i.test(name)))
      words.push('-H', quote('Content-Type: ' + request.headers.get('content-type')))
    words.push('--data-raw', quote(body))
  }
  return [...words, quote(url.href)].join(' ')
}

function preview() {
  try {
    const made = compose()
    $('content').disabled = made.bare
    $('line').textContent = made.request.method + ' ' + made.url.pathname + made.url.search + ' HTTP/1.1'
    $('curl').textContent = curl(made)
    tell('problem', made.left.length ? 'Browsers do not let pages set ' + made.left.join(', ') + '.' : '')
    return made
  } catch (error) {
    tell('problem', error.message, true)
  }
}

let running

async function send(event) {
  event.preventDefault()
  if (running) return running.abort()
  const made = preview()
  if (!made) return
  const mine = running = new AbortController(), began = performance.now(), kept = new Uint8Array(KEPT)
  let answer, first, total = 0, painted = 0
  const paint = () => {
    painted = performance.now()
    const bytes = kept.subarray(0, Math.min(total, KEPT))
    $('text').textContent = new TextDecoder().decode(bytes, {stream: true})
    $('hex').textContent = dump(bytes)
    $('cut').hidden = total <= KEPT
    progress()
  }
  const progress = () =>
    tell('took', `${size(total)}, ${time(first - began)} until the fields, ${time(performance.now() - began)} in all`)
  $('send').textContent = 'Cancel'
  $('none').hidden = true
  $('answer').hidden = $('some').hidden = false
  tell('said', 'Waiting\u2026')
  $('said').scrollIntoView({block: 'nearest'})
  tell('took', '')
  tell('failed', '')
  for (const id of ['names', 'text', 'hex']) $(id).textContent = ''
  try {
    answer = await fetch(made.request, {signal: mine.signal})
    first = performance.now()
    tell('said', answer.status + ' ' + answer.statusText, answer.status > 399)
    if (answer.redirected) tell('failed', 'The browser followed a redirect: this is the answer of ' + answer.url)
    for (const [name, value] of answer.headers) {
      const row = $('names').insertRow()
      row.append(make('th', name), make('td', value))
      row.firstChild.scope = 'row'
    }
    const reader = answer.body && answer.body.getReader()
    for (let part; reader && !(part = await reader.read()).done;) {
      if (total < KEPT) kept.set(part.value.subarray(0, KEPT - total), total)
      const fills = total < KEPT
      total += part.value.length
      if (performance.now() - painted > 150) fills ? paint() : (painted = performance.now(), progress())
    }
  } catch (error) {
    if (mine.signal.aborted) tell('failed', 'Cancelled.')
    else if (answer) tell('failed', 'The connection was closed before the content was complete.', true)
    else tell('failed', UNANSWERED, true)
    if (!answer) tell('said', mine.signal.aborted ? 'Cancelled' : 'No answer', true)
  }
  if (answer) paint()
  else $('some').hidden = true
  $('send').textContent = 'Send'
  running = undefined
}

function copy(event) {
  getSelection().selectAllChildren($(event.target.dataset.of))
  event.target.textContent = document.execCommand('copy') ? 'Copied' : 'Press Ctrl+C'
  setTimeout(() => event.target.textContent = 'Copy', 2000)
}

// --- WebSocket ---

let socket

function entry(way, kind, data, note) {
  const item = make('li', '', way), head = make('p', ''), now = new Date()
  const binary = data instanceof Uint8Array
  const length = data === undefined ? '' : size(binary ? data.length : new TextEncoder().encode(data).length)
  const clock = now.toTimeString().slice(0, 8) + '.' + String(now.getMilliseconds()).padStart(3, '0')
  const arrow = {in: '\u2190 received', out: '\u2192 sent'}[way] || ''
  head.append(make('span', clock, 'mono quiet'), make('b', arrow), make('span', kind), make('span', length, 'quiet'))
  item.append(head)
  if (note) item.append(make('p', note))
  if (data !== undefined) item.append(make('pre', binary ? dump(data.subarray(0, SHOWN)) : data.slice(0, SHOWN)))
  if (data !== undefined && data.length > SHOWN) item.append(make('p', 'Not all of it is shown.', 'quiet'))
  if (binary) item.classList.add('binary')
  const log = $('log')
  log.append(item)
  if (log.children.length > ENTRIES) log.firstChild.remove()
  log.scrollTop = log.scrollHeight
  $('quiet').hidden = true
}

function state() {
  const open = socket && socket.readyState == 1
  $('connect').disabled = !!socket
  $('disconnect').disabled = !socket
  $('say').disabled = !open
}

function connect(event) {
  event.preventDefault()
  if (socket) return
  tell('trouble', '')
  const names = value('subprotocol').split(',').map(name => name.trim()).filter(Boolean)
  try { socket = new WebSocket(value('url'), names) } catch (error) { return tell('trouble', error.message, true) }
  const mine = socket, began = performance.now()
  let opened = false
  mine.binaryType = 'arraybuffer'
  mine.onopen = () => {
    opened = true
    const agreed = [mine.protocol && 'subprotocol ' + mine.protocol, mine.extensions].filter(Boolean).join(', ')
    entry('', 'open', undefined, `Connected in ${time(performance.now() - began)}${agreed && ': ' + agreed}.`)
    state()
  }
  mine.onmessage = ({data}) => typeof data == 'string'
    ? entry('in', 'text (1)', data) : entry('in', 'binary (2)', new Uint8Array(data))
  mine.onclose = ({code, reason}) => {
    if (!opened) entry('', 'failed', undefined, 'The handshake failed: the server refused it or did not answer.')
    else if (code == 1006) entry('', 'closed', undefined, 'The connection ended without a close frame.')
    else entry('in', 'close (8)', undefined, code == 1005 ? 'without a code' : `${code} ${reason}`)
    socket = undefined
    state()
  }
  state()
}

function disconnect() {
  const code = value('code'), reason = $('reason').value
  tell('trouble', '')
  try { socket.close(...code ? [+code, reason] : []) } catch (error) { return tell('trouble', error.message, true) }
  entry('out', 'close (8)', undefined, code ? `${code} ${reason}` : 'without a code')
}

function say(event) {
  event.preventDefault()
  if (!socket || socket.readyState != 1) return
  const text = $('message').value
  tell('trouble', '')
  if ($('as-text').checked) {
    socket.send(text)
    return entry('out', 'text (1)', text)
  }
  const digits = text.replace(/\s/g, '')
  if (!/^([0-9a-f]{2})*$/i.test(digits)) return tell('trouble', 'Expected two hex digits a byte, as in 00 ff 7f', true)
  const bytes = Uint8Array.from(digits.match(/../g) || [], pair => parseInt(pair, 16))
  socket.send(bytes)
  entry('out', 'binary (2)', bytes)
}

// --- the page ---

function show() {
  const part = location.hash == '#websocket' ? 'websocket' : 'request'
  for (const link of document.querySelectorAll('nav a')) {
    const here = link.hash == '#' + part
    here ? link.setAttribute('aria-current', 'page') : link.removeAttribute('aria-current')
    $(link.hash.slice(1) + '-part').hidden = !here
  }
}

$('origin').textContent = location.origin
$('path').value = base
$('url').value = location.origin.replace(/^http/, 'ws') + base
$('asked').oninput = preview
$('asked').onsubmit = send
$('joined').onsubmit = connect
$('told').onsubmit = say
$('disconnect').onclick = disconnect
$('clear').onclick = () => $('log').textContent = ''
for (const button of document.querySelectorAll('[data-of]')) button.onclick = copy
for (const id of ['as-plain', 'as-hex']) $(id).onchange = () => {
  $('text').hidden = $('as-hex').checked
  $('hex').hidden = !$('as-hex').checked
}
onhashchange = show
show()
preview()
state()
"""

_ICON = (
    b"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='%230a6b5b'"
    b" stroke-width='2.5' stroke-linecap='round'%3E%3Cpath d='M5 12h.01M9 8a6 6 0 0 1 0 8M13 5a10 10 0 0 1 0 14M17 2"
    b"a14 14 0 0 1 0 20'/%3E%3C/svg%3E"
)

_BODY = rb"""
<header>
<h1><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M5 12h.01M9 8a6 6 0 0 1 0 8M13 5a10 10 0 0 1 0 14M17 2a14 14 0
 0 1 0 20"/></svg>echoserver</h1>
<nav aria-label="Parts"><a href="#request">Request</a><a href="#websocket">WebSocket</a></nav>
<code id="origin"></code>
</header>
<main>
<noscript><p class="card">This page needs JavaScript; curl does not.</p></noscript>
<section id="request-part" aria-label="Request">
<form id="asked" class="card" autocomplete="off">
<div class="row first">
<label>Method <input id="method" value="GET" list="methods" class="mono"></label>
<label>Path <input id="path" class="mono"></label>
</div>
<datalist id="methods"><option>GET<option>POST<option>PUT<option>PATCH<option>DELETE<option>OPTIONS<option>HEAD
</datalist>
<div class="row two">
<label>Fields <small>Name: value, one a line</small><textarea id="fields"></textarea></label>
<label>Content <small>not with GET and HEAD</small><textarea id="content"></textarea></label>
</div>
<fieldset><legend>What the answer is to be</legend><div class="row">
<label>Echo <small>what comes back</small><select id="echo"><option value="">as sent<option>json<option>head
<option>body<option>none</select></label>
<label>Status <small>503, or in percent 503:20,404:5</small><input id="status"></label>
<label>Delay <small>150ms, or from a range 50ms-2s</small><input id="delay"></label>
<label>Size <small>64KiB of text, not the echo</small><input id="size"></label>
<label>Rate <small>100KiB a second</small><input id="rate"></label>
<label>Close <small>after it, in percent</small><input id="close" inputmode="decimal"></label>
<label>Abort <small>reset, in percent</small><input id="abort" inputmode="decimal"></label>
<label class="check"><input id="chunked" type="checkbox">Chunked</label>
</div>
<p class="quiet">After a reset the browser may send the request again, up to twice.</p></fieldset>
<label>Fields of the answer <small>Name: value, one a line</small><textarea id="header"></textarea></label>
<div class="bar"><button id="send" class="main">Send</button><p id="problem" class="quiet" role="status"></p></div>
<div class="copy"><b class="quiet">Request line</b><button type="button" data-of="line" aria-label="Copy the request
 line">Copy</button><pre id="line"></pre></div>
<div class="copy"><b class="quiet">The same with curl</b><button type="button" data-of="curl" aria-label="Copy the curl
 command">Copy</button><pre id="curl"></pre></div>
</form>
<div class="card">
<h2>Answer</h2>
<p id="none" class="quiet">Nothing has been sent yet. What comes back is shown here: status, fields, and content as text
 and byte by byte. The browser adds fields of its own to a request; an echo shows them.</p>
<div id="answer" class="card" hidden>
<div aria-live="polite"><p id="said"></p><p id="took" class="quiet"></p><p id="failed"></p></div>
<div id="some">
<table aria-label="Fields"><tbody id="names"></tbody></table>
<p class="quiet">As browsers tell pages: names sorted and in lower case, without Set-Cookie, chunks put together.
 curl shows all.</p>
<fieldset class="bar"><legend>Content</legend>
<label class="check"><input type="radio" name="as" id="as-plain" checked>Text</label>
<label class="check"><input type="radio" name="as" id="as-hex">Hex</label>
<span id="cut" class="quiet" hidden>its first 64 KiB</span></fieldset>
<pre id="text" tabindex="0" aria-label="Content as text"></pre>
<pre id="hex" tabindex="0" aria-label="Content in hex" hidden></pre>
</div></div></div>
</section>
<section id="websocket-part" aria-label="WebSocket" hidden>
<div class="card">
<form id="joined" class="card" autocomplete="off">
<label>URL <small>any path; also with controls: /?delay=1s, /?status=503</small>
<input id="url" class="mono"></label>
<label>Subprotocols <small>comma between them; the first is agreed to</small>
<input id="subprotocol"></label>
<div class="row two">
<label>Close code <small>1000, or 3000 to 4999</small><input id="code" value="1000" inputmode="numeric"></label>
<label>Close reason <small>up to 123 bytes</small><input id="reason"></label>
</div>
<div class="bar"><button id="connect" class="main">Connect</button><button type="button" id="disconnect">Disconnect
</button>
<p id="trouble" class="quiet" role="status"></p></div>
</form>
<form id="told" class="card" autocomplete="off">
<label>Message<textarea id="message" rows="4">hello</textarea></label>
<fieldset class="bar" aria-label="Send">
<button id="say" class="main">Send</button>
<label class="check"><input type="radio" name="kind" id="as-text" checked>Text</label>
<label class="check"><input type="radio" name="kind" id="as-binary">Binary, in hex</label>
</fieldset>
</form>
</div>
<div class="card">
<div class="bar"><h2>Log</h2><button type="button" id="clear">Clear</button></div>
<p id="quiet" class="quiet">Nothing yet.</p>
<ol id="log" role="log" tabindex="0" aria-label="Messages"></ol>
<p class="quiet">Browsers hide pings, pongs, fragments and compression from pages: these are messages, not frames.</p>
</div>
</section>
</main>
"""


def _source(inline: bytes) -> bytes:
    """What a policy calls an inline script or style by: its digest (CSP3 section 2.3.1)."""
    return b"'sha256-%b'" % base64.b64encode(hashlib.sha256(inline).digest())


PAGE = (
    b'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>echoserver</title>\n'
    b'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    b'<link rel="icon" href="%b">\n<style>%b</style>\n</head>\n<body spellcheck="false">%b'
    b"<script>%b</script>\n</body>\n</html>\n"
) % (_ICON, _STYLE, _BODY, _SCRIPT)
"""HTML in UTF-8."""


def page(prefix: str) -> bytes:
    """The same for controls whose names begin so."""
    if not prefix:
        return PAGE
    begun = PAGE.replace(b"<body ", b'<body data-prefix="%b" ' % prefix.encode(), 1)
    return begun.replace(
        b"/?delay=1s, /?status=503", b"/?%bdelay=1s, /?%bstatus=503" % (prefix.encode(), prefix.encode())
    )


# ws: and wss: because not every browser takes a WebSocket of the page's origin for 'self'
FIELDS = (
    b"Content-Security-Policy: default-src 'none'; script-src %b; style-src %b; img-src data:; "
    b"connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
) % (_source(_SCRIPT), _source(_STYLE))
"""Field lines that go with it: nothing but what is in it runs, and no other page may frame it."""
