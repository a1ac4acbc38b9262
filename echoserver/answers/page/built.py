"""What is served: made of index.html, style.css and script.js by __main__.py, and not to be edited."""

PAGE = (
    b'<!doctype html>\n'
    b'<html lang="en">\n'
    b'<head>\n'
    b'<meta charset="utf-8">\n'
    b'<title>echoserver</title>\n'
    b'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    b'<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns=\'http://www.w3.org/2000/svg\' viewBox=\'0 0 24 24\' fill=\'none\' stroke=\'%230a6b5b\' stroke-width=\'2.5\' stroke-linecap=\'round\'%3E%3Cpath d=\'M5 12h.01M9 8a6 6 0 0 1 0 8M13 5a10 10 0 0 1 0 14M17 2a14 14 0 0 1 0 20\'/%3E%3C/svg%3E">\n'
    b'<style>\n'
    b':root { color-scheme: light dark; --page: #f6f6f3; --card: #ffffff; --well: #f3f3ef; --line: #dfdfd8; --edge: #85867f;\n'
    b'  --text: #1c1d1b; --quiet: #5c5e58; --accent: #0a6b5b; --on-accent: #ffffff; --bad: #b3261e }\n'
    b'@media (prefers-color-scheme: dark) {\n'
    b'  :root { --page: #121413; --card: #1a1d1c; --well: #111312; --line: #2f3432; --edge: #747b78;\n'
    b'    --text: #e7e9e6; --quiet: #a1a8a4; --accent: #63d2b6; --on-accent: #06251e; --bad: #ff9d92 }\n'
    b'}\n'
    b'* { box-sizing: border-box; margin: 0 }\n'
    b'html { scroll-padding-bottom: 5rem }\n'
    b'[hidden] { display: none !important }\n'
    b'body { background: var(--page); color: var(--text); font: 15px/1.45 system-ui, sans-serif }\n'
    b'pre, code, textarea, .mono { font: 12.5px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }\n'
    b'header, main { max-width: 78rem; margin: auto; padding: 0 1rem }\n'
    b'header { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem 1.5rem; padding-block: 1rem }\n'
    b'h1 { display: flex; align-items: center; gap: .5rem; font-size: 1.2rem; letter-spacing: -.01em }\n'
    b'h1 svg { width: 1.6rem; fill: none; stroke: var(--accent); stroke-width: 2; stroke-linecap: round }\n'
    b'h2 { font-size: 1rem }\n'
    b'header code { margin-left: auto; color: var(--quiet) }\n'
    b'nav { display: flex; gap: .25rem }\n'
    b'nav a { padding: .35rem .8rem; border-radius: 2rem; color: var(--quiet); text-decoration: none }\n'
    b'nav a[aria-current] { background: var(--card); color: var(--text); box-shadow: 0 0 0 1px var(--line); font-weight: 600 }\n'
    b'section { display: grid; gap: 1rem; grid-template-columns: minmax(0, 1fr); padding-bottom: 2rem }\n'
    b'@media (min-width: 60rem) { section { grid-template-columns: minmax(0, 9fr) minmax(0, 11fr); align-items: start } }\n'
    b'.card .card { padding: 0; border: 0 }\n'
    b'#some { display: grid; gap: .8rem; grid-template-columns: minmax(0, 1fr) }\n'
    b'.card { display: grid; gap: 1rem; padding: 1.1rem; border: 1px solid var(--line); border-radius: .75rem;\n'
    b'  background: var(--card); grid-template-columns: minmax(0, 1fr) }\n'
    b'.row { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(min(6.6rem, 100%), 1fr)) }\n'
    b'.first { grid-template-columns: 6.5rem minmax(0, 1fr) }\n'
    b'.two { grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)) }\n'
    b'label { display: flex; flex-direction: column; gap: .2rem; font-size: .85rem; font-weight: 600 }\n'
    b'small, .quiet { color: var(--quiet); font-size: .8rem; font-weight: 400 }\n'
    b'label small { order: 1 }\n'
    b'input, select, textarea { width: 100%; min-height: 2.2rem; padding: .35rem .55rem; border: 1px solid var(--edge);\n'
    b'  border-radius: .4rem; background: var(--card); color: inherit; font-weight: 400 }\n'
    b'input, select { font-size: .9rem; font-family: inherit }\n'
    b'textarea { min-height: 4rem; resize: vertical }\n'
    b'input[type=checkbox], input[type=radio] { width: 1.05rem; min-height: 1.05rem; margin: 0; accent-color: var(--accent) }\n'
    b':focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }\n'
    b':disabled { opacity: .55 }\n'
    b'fieldset { border: 0; padding: 0; min-width: 0 }\n'
    b'legend { padding: 0 0 .5rem; font-weight: 600 }\n'
    b'fieldset > p { margin-top: .5rem }\n'
    b'.check { flex-direction: row; align-items: center; gap: .45rem }\n'
    b'.row .check { align-self: start; margin-top: 2rem }\n'
    b'button { min-height: 2.2rem; padding: .35rem 1rem; border: 1px solid var(--edge); border-radius: .4rem;\n'
    b'  background: none; color: inherit; font: 600 .9rem system-ui, sans-serif; cursor: pointer }\n'
    b'button.main { border-color: var(--accent); background: var(--accent); color: var(--on-accent) }\n'
    b'.bar { display: flex; flex-wrap: wrap; align-items: center; gap: .6rem 1rem }\n'
    b'#asked .bar { position: sticky; bottom: 0; padding-block: .6rem; background: var(--card) }\n'
    b'.bar p { flex: 1 1 12rem }\n'
    b'#clear { margin-left: auto }\n'
    b'.copy { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: .15rem .6rem; align-items: center }\n'
    b'.copy button { min-height: 1.7rem; padding: 0 .2rem; border-color: transparent; color: var(--accent); font-size: .8rem }\n'
    b'.copy pre { grid-column: 1 / -1; max-height: 9rem }\n'
    b'pre { padding: .6rem .75rem; border-radius: .4rem; background: var(--well); overflow: auto; white-space: pre-wrap;\n'
    b'  overflow-wrap: anywhere }\n'
    b'#hex, .binary pre { white-space: pre; overflow-wrap: normal }\n'
    b'@media (max-width: 40rem) { #hex, .binary pre { font-size: 11px } }\n'
    b'#text, #hex { max-height: 32rem; min-height: 3rem }\n'
    b'#said { font-size: 1.6rem; font-weight: 650; letter-spacing: -.02em; overflow-wrap: anywhere; scroll-margin: 6rem }\n'
    b'.bad { color: var(--bad) }\n'
    b'table { width: 100%; border-collapse: collapse; table-layout: fixed }\n'
    b'td, th { padding: .25rem .5rem .25rem 0; border-top: 1px solid var(--line); font-size: .85rem; text-align: left;\n'
    b'  vertical-align: top; overflow-wrap: anywhere }\n'
    b'th { width: 40%; color: var(--quiet); font-weight: 400 }\n'
    b'ol { padding: 0; list-style: none; max-height: 44rem; overflow: auto }\n'
    b'li { padding: .55rem 0 .55rem .8rem; border-left: 3px solid var(--edge); margin-bottom: .5rem }\n'
    b'li.in { border-color: var(--accent) }\n'
    b'li p { display: flex; flex-wrap: wrap; gap: 0 .8rem; align-items: baseline }\n'
    b'li b:empty { display: none }\n'
    b'li pre { margin-top: .35rem; max-height: 14rem }\n'
    b'</style>\n'
    b'</head>\n'
    b'<body spellcheck="false">\n'
    b'<header>\n'
    b'<h1><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M5 12h.01M9 8a6 6 0 0 1 0 8M13 5a10 10 0 0 1 0 14M17 2a14 14 0\n'
    b' 0 1 0 20"/></svg>echoserver</h1>\n'
    b'<nav aria-label="Parts"><a href="#request">Request</a><a href="#websocket">WebSocket</a></nav>\n'
    b'<code id="origin"></code>\n'
    b'</header>\n'
    b'<main>\n'
    b'<noscript><p class="card">This page needs JavaScript; curl does not.</p></noscript>\n'
    b'<section id="request-part" aria-label="Request">\n'
    b'<form id="asked" class="card" autocomplete="off">\n'
    b'<div class="row first">\n'
    b'<label>Method <input id="method" value="GET" list="methods" class="mono"></label>\n'
    b'<label>Path <input id="path" class="mono"></label>\n'
    b'</div>\n'
    b'<datalist id="methods"><option>GET<option>POST<option>PUT<option>PATCH<option>DELETE<option>OPTIONS<option>HEAD\n'
    b'</datalist>\n'
    b'<div class="row two">\n'
    b'<label>Fields <small>Name: value, one a line</small><textarea id="fields"></textarea></label>\n'
    b'<label>Content <small>not with GET and HEAD</small><textarea id="content"></textarea></label>\n'
    b'</div>\n'
    b'<fieldset><legend>What the answer is to be</legend><div class="row">\n'
    b'<label>Echo <small>what comes back</small><select id="echo"><option value="">as sent<option>json<option>head\n'
    b'<option>body<option>none</select></label>\n'
    b'<label>Status <small>503, or in percent 503:20,404:5</small><input id="status"></label>\n'
    b'<label>Delay <small>150ms, or from a range 50ms-2s</small><input id="delay"></label>\n'
    b'<label>Size <small>64KiB of text, not the echo</small><input id="size"></label>\n'
    b'<label>Rate <small>100KiB a second</small><input id="rate"></label>\n'
    b'<label>Close <small>after it, in percent</small><input id="close" inputmode="decimal"></label>\n'
    b'<label>Abort <small>reset, in percent</small><input id="abort" inputmode="decimal"></label>\n'
    b'<label class="check"><input id="chunked" type="checkbox">Chunked</label>\n'
    b'</div>\n'
    b'<p class="quiet">After a reset the browser may send the request again, up to twice.</p></fieldset>\n'
    b'<label>Fields of the answer <small>Name: value, one a line</small><textarea id="header"></textarea></label>\n'
    b'<div class="bar"><button id="send" class="main">Send</button><p id="problem" class="quiet" role="status"></p></div>\n'
    b'<div class="copy"><b class="quiet">Request line</b><button type="button" data-of="line" aria-label="Copy the request\n'
    b' line">Copy</button><pre id="line"></pre></div>\n'
    b'<div class="copy"><b class="quiet">The same with curl</b><button type="button" data-of="curl" aria-label="Copy the curl\n'
    b' command">Copy</button><pre id="curl"></pre></div>\n'
    b'</form>\n'
    b'<div class="card">\n'
    b'<h2>Answer</h2>\n'
    b'<p id="none" class="quiet">Nothing has been sent yet. What comes back is shown here: status, fields, and content as text\n'
    b' and byte by byte. The browser adds fields of its own to a request; an echo shows them.</p>\n'
    b'<div id="answer" class="card" hidden>\n'
    b'<div aria-live="polite"><p id="said"></p><p id="took" class="quiet"></p><p id="failed"></p></div>\n'
    b'<div id="some">\n'
    b'<table aria-label="Fields"><tbody id="names"></tbody></table>\n'
    b'<p class="quiet">As browsers tell pages: names sorted and in lower case, without Set-Cookie, chunks put together.\n'
    b' curl shows all.</p>\n'
    b'<fieldset class="bar"><legend>Content</legend>\n'
    b'<label class="check"><input type="radio" name="as" id="as-plain" checked>Text</label>\n'
    b'<label class="check"><input type="radio" name="as" id="as-hex">Hex</label>\n'
    b'<span id="cut" class="quiet" hidden>its first 64 KiB</span></fieldset>\n'
    b'<pre id="text" tabindex="0" aria-label="Content as text"></pre>\n'
    b'<pre id="hex" tabindex="0" aria-label="Content in hex" hidden></pre>\n'
    b'</div></div></div>\n'
    b'</section>\n'
    b'<section id="websocket-part" aria-label="WebSocket" hidden>\n'
    b'<div class="card">\n'
    b'<form id="joined" class="card" autocomplete="off">\n'
    b'<label>URL <small>any path; also with controls: /?delay=1s, /?status=503</small>\n'
    b'<input id="url" class="mono"></label>\n'
    b'<label>Subprotocols <small>comma between them; the first is agreed to</small>\n'
    b'<input id="subprotocol"></label>\n'
    b'<div class="row two">\n'
    b'<label>Close code <small>1000, or 3000 to 4999</small><input id="code" value="1000" inputmode="numeric"></label>\n'
    b'<label>Close reason <small>up to 123 bytes</small><input id="reason"></label>\n'
    b'</div>\n'
    b'<div class="bar"><button id="connect" class="main">Connect</button><button type="button" id="disconnect">Disconnect\n'
    b'</button>\n'
    b'<p id="trouble" class="quiet" role="status"></p></div>\n'
    b'</form>\n'
    b'<form id="told" class="card" autocomplete="off">\n'
    b'<label>Message<textarea id="message" rows="4">hello</textarea></label>\n'
    b'<fieldset class="bar" aria-label="Send">\n'
    b'<button id="say" class="main">Send</button>\n'
    b'<label class="check"><input type="radio" name="kind" id="as-text" checked>Text</label>\n'
    b'<label class="check"><input type="radio" name="kind" id="as-binary">Binary, in hex</label>\n'
    b'</fieldset>\n'
    b'</form>\n'
    b'</div>\n'
    b'<div class="card">\n'
    b'<div class="bar"><h2>Log</h2><button type="button" id="clear">Clear</button></div>\n'
    b'<p id="quiet" class="quiet">Nothing yet.</p>\n'
    b'<ol id="log" role="log" tabindex="0" aria-label="Messages"></ol>\n'
    b'<p class="quiet">Browsers hide pings, pongs, fragments and compression from pages: these are messages, not frames.</p>\n'
    b'</div>\n'
    b'</section>\n'
    b'</main>\n'
    b'<script>\n'
    b"'use strict'\n"
    b'const $ = id => document.getElementById(id), KEPT = 65536, SHOWN = 4096, ENTRIES = 500\n'
    b"const UNANSWERED = 'The connection was closed without an answer, nobody is there, or a redirect led to another origin. '\n"
    b"  + 'The browser may have sent the request more than once.'\n"
    b"const base = location.pathname.replace(/\\.echo$/, '') // there may be a proxy that puts something before it\n"
    b"const prefix = document.body.dataset.prefix || '' // of the controls' names\n"
    b'const value = id => $(id).value.trim()\n'
    b"const lines = id => $(id).value.split('\\n').map(line => line.trim()).filter(Boolean)\n"
    b"const time = ms => ms < 1000 ? Math.round(ms) + ' ms' : (ms / 1000).toFixed(2) + ' s'\n"
    b'\n'
    b'function size(bytes) {\n'
    b"  if (bytes < 1024) return bytes + (bytes == 1 ? ' byte' : ' bytes')\n"
    b'  const power = Math.min(3, Math.floor(Math.log2(bytes) / 10))\n'
    b"  return (bytes / 1024 ** power).toFixed(1) + ' ' + ['', 'KiB', 'MiB', 'GiB'][power]\n"
    b'}\n'
    b'\n'
    b'function make(tag, text, kind) {\n'
    b'  const made = document.createElement(tag)\n'
    b'  made.textContent = text\n'
    b'  if (kind) made.className = kind\n'
    b'  return made\n'
    b'}\n'
    b'\n'
    b'function tell(id, text, bad) {\n'
    b'  $(id).textContent = text\n'
    b"  $(id).classList.toggle('bad', !!bad)\n"
    b'}\n'
    b'\n'
    b'function dump(bytes) {\n'
    b"  const width = matchMedia('(max-width: 40rem)').matches ? 8 : 16, rows = []\n"
    b'  for (let at = 0; at < bytes.length; at += width) {\n'
    b'    const row = Array.from(bytes.subarray(at, at + width))\n'
    b"    const hex = row.map(byte => byte.toString(16).padStart(2, '0')).join(' ')\n"
    b"    const text = row.map(byte => byte > 31 && byte < 127 ? String.fromCharCode(byte) : '.').join('')\n"
    b"    rows.push(at.toString(16).padStart(4, '0') + '  ' + hex.padEnd(width * 3) + ' ' + text)\n"
    b'  }\n'
    b"  return rows.join('\\n')\n"
    b'}\n'
    b'\n'
    b'// --- the request ---\n'
    b'\n'
    b'const encode = text => encodeURIComponent(text).replace(/%(3A|2C|2F)/g, decodeURIComponent)\n'
    b'const quote = text => /^[\\w.\\/:-]+$/.test(text) ? text : "\'" + text.replace(/\'/g, "\'\\\\\'\'") + "\'"\n'
    b'\n'
    b'function target() {\n'
    b'  const asked = []\n'
    b"  const ask = (name, value) => asked.push(prefix + (value ? name + '=' + encode(value) : name))\n"
    b"  for (const name of ['echo', 'status', 'delay', 'size', 'rate']) if (value(name)) ask(name, value(name))\n"
    b"  for (const line of lines('header')) ask('header', line)\n"
    b"  if ($('chunked').checked) ask('chunked')\n"
    b"  for (const name of ['close', 'abort']) if (value(name)) ask(name, value(name) == '100' ? '' : value(name))\n"
    b"  const path = value('path').replace(/^\\/?/, '/').replace(/#/g, '%23')\n"
    b"  return path + (asked.length ? (path.includes('?') ? '&' : '?') + asked.join('&') : '')\n"
    b'}\n'
    b'\n'
    b'function compose() {\n'
    b"  const url = new URL(location.origin + target()), fields = [], method = value('method') || 'GET'\n"
    b"  const bare = /^(get|head)$/i.test(method), content = $('content').value\n"
    b"  for (const line of lines('fields')) {\n"
    b"    const found = /^([!#$%&'*+.^`|~\\w-]+):[ \\t]*(.*)$/.exec(line)\n"
    b"    if (!found) throw Error('Expected a field line, Name: value, got: ' + line)\n"
    b'    fields.push([found[1], found[2]])\n'
    b'  }\n'
    b'  const body = bare || !content && !/^(post|put)$/i.test(method) ? undefined : content\n'
    b"  const request = new Request(url, {method, headers: fields, body, cache: 'no-store'})\n"
    b'  const kept = fields.filter(([name]) => request.headers.has(name))\n'
    b'  const left = fields.filter(([name]) => !request.headers.has(name)).map(([name]) => name)\n'
    b'  return {request, url, body, bare, fields: kept, left}\n'
    b'}\n'
    b'\n'
    b'function curl({request, url, body, fields}) {\n'
    b"  const words = ['curl', request.method == 'HEAD' ? '-I' : '-i']\n"
    b"  if (request.method != 'HEAD' && request.method != (body === undefined ? 'GET' : 'POST'))\n"
    b"    words.push('-X', quote(request.method))\n"
    b"  if (/[[\\]{}]/.test(url.href)) words.push('-g')\n"
    b"  for (const [name, value] of fields) words.push('-H', quote(value ? name + ': ' + value : name + ';'))\n"
    b'  if (body !== undefined) {\n'
    b'    if (!fields.some(([name]) => /^content-type$/i.test(name)))\n'
    b"      words.push('-H', quote('Content-Type: ' + request.headers.get('content-type')))\n"
    b"    words.push('--data-raw', quote(body))\n"
    b'  }\n'
    b"  return [...words, quote(url.href)].join(' ')\n"
    b'}\n'
    b'\n'
    b'function preview() {\n'
    b'  try {\n'
    b'    const made = compose()\n'
    b"    $('content').disabled = made.bare\n"
    b"    $('line').textContent = made.request.method + ' ' + made.url.pathname + made.url.search + ' HTTP/1.1'\n"
    b"    $('curl').textContent = curl(made)\n"
    b"    tell('problem', made.left.length ? 'Browsers do not let pages set ' + made.left.join(', ') + '.' : '')\n"
    b'    return made\n'
    b'  } catch (error) {\n'
    b"    tell('problem', error.message, true)\n"
    b'  }\n'
    b'}\n'
    b'\n'
    b'let running\n'
    b'\n'
    b'async function send(event) {\n'
    b'  event.preventDefault()\n'
    b'  if (running) return running.abort()\n'
    b'  const made = preview()\n'
    b'  if (!made) return\n'
    b'  const mine = running = new AbortController(), began = performance.now(), kept = new Uint8Array(KEPT)\n'
    b'  let answer, first, total = 0, painted = 0\n'
    b'  const paint = () => {\n'
    b'    painted = performance.now()\n'
    b'    const bytes = kept.subarray(0, Math.min(total, KEPT))\n'
    b"    $('text').textContent = new TextDecoder().decode(bytes, {stream: true})\n"
    b"    $('hex').textContent = dump(bytes)\n"
    b"    $('cut').hidden = total <= KEPT\n"
    b'    progress()\n'
    b'  }\n'
    b'  const progress = () =>\n'
    b"    tell('took', `${size(total)}, ${time(first - began)} until the fields, ${time(performance.now() - began)} in all`)\n"
    b"  $('send').textContent = 'Cancel'\n"
    b"  $('none').hidden = true\n"
    b"  $('answer').hidden = $('some').hidden = false\n"
    b"  tell('said', 'Waiting\\u2026')\n"
    b"  $('said').scrollIntoView({block: 'nearest'})\n"
    b"  tell('took', '')\n"
    b"  tell('failed', '')\n"
    b"  for (const id of ['names', 'text', 'hex']) $(id).textContent = ''\n"
    b'  try {\n'
    b'    answer = await fetch(made.request, {signal: mine.signal})\n'
    b'    first = performance.now()\n'
    b"    tell('said', (answer.status + ' ' + answer.statusText).trim(), answer.status > 399)\n"
    b"    if (answer.redirected) tell('failed', 'The browser followed a redirect: this is the answer of ' + answer.url)\n"
    b'    for (const [name, value] of answer.headers) {\n'
    b"      const row = $('names').insertRow()\n"
    b"      row.append(make('th', name), make('td', value))\n"
    b"      row.firstChild.scope = 'row'\n"
    b'    }\n'
    b'    const reader = answer.body && answer.body.getReader()\n'
    b'    for (let part; reader && !(part = await reader.read()).done;) {\n'
    b'      if (total < KEPT) kept.set(part.value.subarray(0, KEPT - total), total)\n'
    b'      const fills = total < KEPT\n'
    b'      total += part.value.length\n'
    b'      if (performance.now() - painted > 150) fills ? paint() : (painted = performance.now(), progress())\n'
    b'    }\n'
    b'  } catch (error) {\n'
    b"    if (mine.signal.aborted) tell('failed', 'Cancelled.')\n"
    b"    else if (answer) tell('failed', 'The connection was closed before the content was complete.', true)\n"
    b"    else tell('failed', UNANSWERED, true)\n"
    b"    if (!answer) tell('said', mine.signal.aborted ? 'Cancelled' : 'No answer', true)\n"
    b'  }\n'
    b'  if (answer) paint()\n'
    b"  else $('some').hidden = true\n"
    b"  $('send').textContent = 'Send'\n"
    b'  running = undefined\n'
    b'}\n'
    b'\n'
    b'function copy(event) {\n'
    b'  getSelection().selectAllChildren($(event.target.dataset.of))\n'
    b"  event.target.textContent = document.execCommand('copy') ? 'Copied' : 'Press Ctrl+C'\n"
    b"  setTimeout(() => event.target.textContent = 'Copy', 2000)\n"
    b'}\n'
    b'\n'
    b'// --- WebSocket ---\n'
    b'\n'
    b'let socket\n'
    b'\n'
    b'function entry(way, kind, data, note) {\n'
    b"  const item = make('li', '', way), head = make('p', ''), now = new Date()\n"
    b'  const binary = data instanceof Uint8Array\n'
    b"  const length = data === undefined ? '' : size(binary ? data.length : new TextEncoder().encode(data).length)\n"
    b"  const clock = now.toTimeString().slice(0, 8) + '.' + String(now.getMilliseconds()).padStart(3, '0')\n"
    b"  const arrow = {in: '\\u2190 received', out: '\\u2192 sent'}[way] || ''\n"
    b"  head.append(make('span', clock, 'mono quiet'), make('b', arrow), make('span', kind), make('span', length, 'quiet'))\n"
    b'  item.append(head)\n'
    b"  if (note) item.append(make('p', note))\n"
    b"  if (data !== undefined) item.append(make('pre', binary ? dump(data.subarray(0, SHOWN)) : data.slice(0, SHOWN)))\n"
    b"  if (data !== undefined && data.length > SHOWN) item.append(make('p', 'Not all of it is shown.', 'quiet'))\n"
    b"  if (binary) item.classList.add('binary')\n"
    b"  const log = $('log')\n"
    b'  log.append(item)\n'
    b'  if (log.children.length > ENTRIES) log.firstChild.remove()\n'
    b'  log.scrollTop = log.scrollHeight\n'
    b"  $('quiet').hidden = true\n"
    b'}\n'
    b'\n'
    b'function state() {\n'
    b'  const open = socket && socket.readyState == 1\n'
    b"  $('connect').disabled = !!socket\n"
    b"  $('disconnect').disabled = !socket\n"
    b"  $('say').disabled = !open\n"
    b'}\n'
    b'\n'
    b'function connect(event) {\n'
    b'  event.preventDefault()\n'
    b'  if (socket) return\n'
    b"  tell('trouble', '')\n"
    b"  const names = value('subprotocol').split(',').map(name => name.trim()).filter(Boolean)\n"
    b"  try { socket = new WebSocket(value('url'), names) } catch (error) { return tell('trouble', error.message, true) }\n"
    b'  const mine = socket, began = performance.now()\n'
    b'  let opened = false\n'
    b"  mine.binaryType = 'arraybuffer'\n"
    b'  mine.onopen = () => {\n'
    b'    opened = true\n'
    b"    const agreed = [mine.protocol && 'subprotocol ' + mine.protocol, mine.extensions].filter(Boolean).join(', ')\n"
    b"    entry('', 'open', undefined, `Connected in ${time(performance.now() - began)}${agreed && ': ' + agreed}.`)\n"
    b'    state()\n'
    b'  }\n'
    b"  mine.onmessage = ({data}) => typeof data == 'string'\n"
    b"    ? entry('in', 'text (1)', data) : entry('in', 'binary (2)', new Uint8Array(data))\n"
    b'  mine.onclose = ({code, reason}) => {\n'
    b"    if (!opened) entry('', 'failed', undefined, 'The handshake failed: the server refused it or did not answer.')\n"
    b"    else if (code == 1006) entry('', 'closed', undefined, 'The connection ended without a close frame.')\n"
    b"    else entry('in', 'close (8)', undefined, code == 1005 ? 'without a code' : `${code} ${reason}`)\n"
    b'    socket = undefined\n'
    b'    state()\n'
    b'  }\n'
    b'  state()\n'
    b'}\n'
    b'\n'
    b'function disconnect() {\n'
    b"  const code = value('code'), reason = $('reason').value\n"
    b"  tell('trouble', '')\n"
    b"  try { socket.close(...code ? [+code, reason] : []) } catch (error) { return tell('trouble', error.message, true) }\n"
    b"  entry('out', 'close (8)', undefined, code ? `${code} ${reason}` : 'without a code')\n"
    b'}\n'
    b'\n'
    b'function say(event) {\n'
    b'  event.preventDefault()\n'
    b'  if (!socket || socket.readyState != 1) return\n'
    b"  const text = $('message').value\n"
    b"  tell('trouble', '')\n"
    b"  if ($('as-text').checked) {\n"
    b'    socket.send(text)\n'
    b"    return entry('out', 'text (1)', text)\n"
    b'  }\n'
    b"  const digits = text.replace(/\\s/g, '')\n"
    b"  if (!/^([0-9a-f]{2})*$/i.test(digits)) return tell('trouble', 'Expected two hex digits a byte, as in 00 ff 7f', true)\n"
    b'  const bytes = Uint8Array.from(digits.match(/../g) || [], pair => parseInt(pair, 16))\n'
    b'  socket.send(bytes)\n'
    b"  entry('out', 'binary (2)', bytes)\n"
    b'}\n'
    b'\n'
    b'// --- the page ---\n'
    b'\n'
    b'function show() {\n'
    b"  const part = location.hash == '#websocket' ? 'websocket' : 'request'\n"
    b"  for (const link of document.querySelectorAll('nav a')) {\n"
    b"    const here = link.hash == '#' + part\n"
    b"    here ? link.setAttribute('aria-current', 'page') : link.removeAttribute('aria-current')\n"
    b"    $(link.hash.slice(1) + '-part').hidden = !here\n"
    b'  }\n'
    b'}\n'
    b'\n'
    b"$('origin').textContent = location.origin\n"
    b"$('path').value = base\n"
    b"$('url').value = location.origin.replace(/^http/, 'ws') + base\n"
    b"$('asked').oninput = preview\n"
    b"$('asked').onsubmit = send\n"
    b"$('joined').onsubmit = connect\n"
    b"$('told').onsubmit = say\n"
    b"$('disconnect').onclick = disconnect\n"
    b"$('clear').onclick = () => $('log').textContent = ''\n"
    b"for (const button of document.querySelectorAll('[data-of]')) button.onclick = copy\n"
    b"for (const id of ['as-plain', 'as-hex']) $(id).onchange = () => {\n"
    b"  $('text').hidden = $('as-hex').checked\n"
    b"  $('hex').hidden = !$('as-hex').checked\n"
    b'}\n'
    b'onhashchange = show\n'
    b'show()\n'
    b'preview()\n'
    b'state()\n'
    b'</script>\n'
    b'</body>\n'
    b'</html>\n'
)
"""HTML in UTF-8, in one piece."""

STYLE_DIGEST, SCRIPT_DIGEST = (
    b"'sha256-rNwpSy5Z+n2QIFhz6/RK/XbWdArzipAbKaTNZT9cM3U='",
    b"'sha256-Mi9yp8VTPiZM6RlfAVmXlB2Cv/qFYlVQEzNMz1M6KxE='",
)
"""What a policy calls them by."""
