'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const SVG = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [400, 200, 46, 12, 8, 24];

function make(tag, parent, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  if (parent) parent.append(node);
  return node;
}

function draw(tag, parent, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes))
    node.setAttribute(name, value);
  parent.append(node);
}

function show(number) {
  return Math.abs(number) >= 1e5 || (number && Math.abs(number) < 1e-3)
    ? number.toExponential(2) : String(Number(number.toPrecision(4)));
}

// Light and dark.
const theme = document.getElementById('theme');
const system = matchMedia('(prefers-color-scheme: dark)');
let dark = system.matches;
function setTheme() {
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  theme.textContent = dark ? 'Light' : 'Dark';
}
theme.hidden = false;
theme.onclick = () => { dark = !dark; setTheme(); };
system.onchange = () => { dark = system.matches; setTheme(); };
setTheme();

// Values of the charts under the pointer, or by the arrow keys.
function nearest(x, xs) {
  let low = 0, high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle; else high = middle;
  }
  return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
}

function watch(figure) {
  const {axes: [x0, x1, y0, y1], series} = data.charts[figure.dataset.chart];
  const svg = figure.querySelector('svg'), box = figure.querySelector('output');
  const cursor = svg.querySelector('.cursor');
  const steps = [...new Set(series.flatMap(one => one.x))].sort((a, b) => a - b);
  const px = x => x1 === x0 ? (LEFT + WIDTH - RIGHT) / 2
    : LEFT + (WIDTH - LEFT - RIGHT) * (x - x0) / (x1 - x0);
  const py = y => TOP + (HEIGHT - TOP - BOTTOM) * (y1 - y) / (y1 - y0);
  let place = steps.length - 1;

  function hide() { cursor.replaceChildren(); box.style.display = 'none'; }

  function point() {
    const x = steps[place];
    cursor.replaceChildren();
    box.replaceChildren();
    draw('path', cursor, {d: `M${px(x)},${TOP}V${HEIGHT - BOTTOM}`});
    make('div', box, `step ${x.toLocaleString('en')}`, 'grey');
    series.forEach((one, n) => {
      const i = nearest(x, one.x);
      if (one.y[i] === null || Math.abs(one.x[i] - x) > (x1 - x0) / 300) return;
      const style = `s${n % 6}${Math.floor(n / 6) % 2 ? ' dashed' : ''}`;
      const line = make('div', box);
      if (series.length > 1) make('i', line, '', `key ${style}`);
      let text = show(one.y[i]);
      if (one.low && one.low[i] !== null && one.high[i] !== null)
        text += ` [${show(one.low[i])}, ${show(one.high[i])}]`;
      make('b', line, text);
      if (series.length > 1) line.append(` ${one.label}`);
      if (one.smooth && one.smooth[i] !== null)
        make('span', line, ` smoothed ${show(one.smooth[i])}`, 'grey');
      draw('circle', cursor,
        {class: style, cx: px(x), cy: py(one.y[i]), r: 3.5});
    });
    box.style.display = 'block';
    const width = svg.clientWidth, at = px(x) * width / WIDTH;
    const left = at > width / 2 ? at - 8 - box.offsetWidth : at + 8;
    const most = width - box.offsetWidth;
    box.style.left = `${Math.max(0, Math.min(left, most))}px`;
  }

  function follow(event) {
    const area = svg.getBoundingClientRect();
    const at = (event.clientX - area.left) * WIDTH / area.width;
    const share = (at - LEFT) / (WIDTH - LEFT - RIGHT);
    place = nearest(x0 + share * (x1 - x0), steps);
    point();
  }

  svg.onpointermove = follow;
  svg.onpointerdown = follow;
  svg.onpointerleave = hide;
  svg.onblur = hide;
  svg.onkeydown = event => {
    const move = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!move) return;
    event.preventDefault();
    place = Math.min(steps.length - 1, Math.max(0, place + move));
    point();
  };
}
document.querySelectorAll('.chart').forEach(watch);

const smoothing = document.getElementById('smoothing');
if (smoothing) smoothing.onchange = () =>
  document.body.classList.toggle('recorded', !smoothing.checked);

// Groups of responses: a run, a step, a prompt.
const SHADES = {
  none: 'no shading', advantage: 'advantage', ratio: 'log ratio',
  entropy: 'entropy', logprob: 'log-probability',
};

function colour(number, largest) {
  const share = largest ? Math.min(1, Math.abs(number) / largest) : 0;
  const name = number < 0 ? '--bad' : '--good';
  return `rgba(var(${name}), ${(0.6 * share).toFixed(3)})`;
}

function shadedNumbers(response, shade) {
  if (shade === 'ratio' && response.ratio)
    return response.ratio.map(x => x === null ? null : Math.log(x));
  if (shade === 'entropy' || shade === 'logprob') return response[shade];
  return null;
}

function writeText(pre, response, shade, largest) {
  const numbers = shadedNumbers(response, shade);
  if (numbers && response.tokens) {
    response.tokens.forEach((token, n) => {
      const span = make('span', pre, token);
      if (numbers[n] === null) return;
      span.style.background = colour(numbers[n], largest);
      span.title = `${SHADES[shade]} ${show(numbers[n])}`;
    });
    return;
  }
  const span = make('span', pre, response.text);
  if (shade === 'advantage' && response.advantage !== null)
    span.style.background = colour(response.advantage, largest);
}

// The magnitude of which 5 % of the tokens have more: the darkest shade.
function darkest(group, shade) {
  let found = group.responses.flatMap(one => shadedNumbers(one, shade) || []);
  if (shade === 'advantage') found = group.responses.map(one => one.advantage);
  found = found.filter(x => x !== null).map(Math.abs).sort((a, b) => a - b);
  const share = shade === 'advantage' ? 1 : 0.95;
  return found[Math.floor(share * (found.length - 1))] || 0;
}

function writeResponse(parent, response, shade, largest) {
  const card = make('article', parent, undefined, 'response');
  const bar = make('div', card, undefined, 'bar');
  if (response.reward !== null)
    make('span', bar, `reward ${show(response.reward)}`, 'chip strong');
  if (response.advantage !== null) {
    const chip = make('span', bar, undefined, 'chip strong');
    const sign = response.advantage > 0 ? '+' : '';
    chip.textContent = `advantage ${sign}${show(response.advantage)}`;
    chip.style.background = colour(response.advantage, 2);
  }
  for (const [name, value] of Object.entries(response.parts))
    make('span', bar, `${name} ${value === null ? '–' : show(value)}`, 'chip');
  make('span', bar, response.remark, 'grey');
  const body = make('div', card, undefined, 'more');
  const pre = make('pre', body);
  pre.dir = 'auto';
  writeText(pre, response, shade, largest);
  if (pre.scrollHeight > pre.clientHeight + 4) {
    const button = make('button', card, 'show all');
    button.onclick = () => {
      const isOpen = body.classList.toggle('open');
      button.textContent = isOpen ? 'show less' : 'show all';
    };
  }
}

function hasSignal(group) {
  return group.responses.some(one => one.advantage);
}

function hasTokens(group) {
  return group.responses.some(one => one.tokens);
}

function browse(root) {
  const groups = data.groups;
  const bar = make('div', root, undefined, 'bar');
  const runs = [...new Set(groups.map(group => group.run))];
  const run = make('select', runs.length > 1 ? bar : null);
  runs.forEach(name => make('option', run, name));
  run.ariaLabel = 'run';
  const back = make('button', bar, '‹');
  const step = make('select', bar);
  const forth = make('button', bar, '›');
  const slider = make('input', bar);
  Object.assign(slider, {type: 'range', min: 0, ariaLabel: 'step'});
  Object.assign(back, {ariaLabel: 'previous step'});
  Object.assign(forth, {ariaLabel: 'next step'});
  step.ariaLabel = 'step';
  const second = make('div', root, undefined, 'bar');
  const prompt = make('select', second);
  prompt.ariaLabel = 'prompt';
  const shades = make('span', second, undefined, 'bar');
  const view = make('div', root);
  let shade = 'none', steps = [], shown = [];

  function chooseRun() {
    const own = groups.filter(group => group.run === run.value);
    steps = [...new Set(own.map(group => group.title))];
    step.replaceChildren();
    steps.forEach(title => make('option', step, title));
    slider.max = steps.length - 1;
    for (const node of [back, forth, slider]) node.hidden = steps.length < 2;
    // The last step with numbers of tokens, or with different rewards.
    const telling = own.filter(hasTokens).pop() || own.filter(hasSignal).pop()
      || own[own.length - 1];
    chooseStep(steps.indexOf(telling.title));
  }

  function chooseStep(n) {
    n = Math.min(steps.length - 1, Math.max(0, n));
    step.selectedIndex = slider.value = n;
    shown = groups.filter(
      group => group.run === run.value && group.title === steps[n]);
    prompt.replaceChildren();
    shown.forEach(group => make('option', prompt, group.name));
    prompt.hidden = shown.length < 2;
    prompt.selectedIndex = Math.max(0, shown.findIndex(hasSignal));
    write();
  }

  function chooseShade(name) { shade = name; write(); }

  function write() {
    const group = shown[Math.max(0, prompt.selectedIndex)];
    const names = ['none', ...Object.keys(SHADES).slice(1).filter(name =>
      group.responses.some(one => name === 'advantage'
        ? one.advantage !== null : shadedNumbers(one, name)))];
    const used = names.includes(shade) ? shade : 'none';
    shades.replaceChildren();
    if (names.length > 1) names.forEach(name => {
      const button = make('button', shades, SHADES[name]);
      button.ariaPressed = name === used;
      button.onclick = () => chooseShade(name);
    });
    view.replaceChildren();
    const line = make('p', view, group.remark, 'grey');
    if (group.gold !== null) {
      line.append(group.remark ? ' Gold answer: ' : 'Gold answer: ');
      make('b', line, group.gold);
    }
    const asked = make('pre', view, group.prompt, 'prompt');
    asked.dir = 'auto';
    const list = make('div', view, undefined, 'responses');
    const largest = darkest(group, used);
    group.responses.forEach(one => writeResponse(list, one, used, largest));
  }

  run.onchange = chooseRun;
  step.onchange = () => chooseStep(step.selectedIndex);
  slider.oninput = () => chooseStep(Number(slider.value));
  back.onclick = () => chooseStep(step.selectedIndex - 1);
  forth.onclick = () => chooseStep(step.selectedIndex + 1);
  prompt.onchange = write;
  chooseRun();
}
const root = document.getElementById('groups');
if (root) browse(root);
