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
    tell('said', (answer.status + ' ' + answer.statusText).trim(), answer.status > 399)
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
