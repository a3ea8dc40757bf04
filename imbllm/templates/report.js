const list = document.querySelector('[role=tablist]'), panels = [...document.querySelectorAll('main > section')];
const tabs = panels.map((panel, i) => {
  const tab = document.createElement('button');
  Object.entries({type: 'button', role: 'tab', id: 'tab-' + panel.id, 'aria-controls': panel.id})
    .forEach(([k, v]) => tab.setAttribute(k, v));
  tab.textContent = panel.dataset.tab;
  tab.onclick = () => show(i);
  tab.onkeydown = e => {
    const to = {ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: panels.length - 1}[e.key];
    if (to !== undefined) {
      e.preventDefault();
      show((to + panels.length) % panels.length);
      tabs[(to + panels.length) % panels.length].focus();
    }
  };
  panel.setAttribute('role', 'tabpanel');
  panel.setAttribute('aria-labelledby', tab.id);
  return list.appendChild(tab);
});
const text = 'currentColor', config = {
  background: null, font: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", view: {stroke: null},
  title: {anchor: 'start', color: text, fontSize: 13, fontWeight: 'normal'},
  axis: {grid: false, labelColor: text, titleColor: text, domainColor: text, tickColor: text, labelFontSize: 11,
    titleFontSize: 12, titleFontWeight: 'normal', labelLimit: 130},
  legend: {labelColor: text, labelFontSize: 11, labelLimit: 300}};
function enliven(figure) {
  const data = figure.querySelector('script'), svg = figure.querySelector('svg'), box = document.createElement('div');
  if (!data || !window.vegaEmbed || figure.classList.contains('live')) return;
  box.className = 'chart';
  box.setAttribute('role', 'img');
  box.setAttribute('aria-label', svg.getAttribute('aria-label'));
  Object.assign(box.style, {height: svg.clientHeight + 'px', minWidth: svg.style.minWidth});
  figure.prepend(box);
  figure.classList.add('live');
  const size = {width: 'container', height: 'container', autosize: {type: 'fit', contains: 'padding'}};
  vegaEmbed(box, {...JSON.parse(data.textContent), ...size, config},
    {actions: false, renderer: 'svg', mode: 'vega-lite', defaultStyle: false, tooltip: {disableDefaultStyle: true}})
    .catch(() => { // the picture stays
      box.remove();
      figure.classList.remove('live');
    });
}
function show(k) {
  tabs.forEach((tab, i) => {
    tab.setAttribute('aria-selected', i === k);
    tab.tabIndex = i === k ? 0 : -1;
    panels[i].hidden = i !== k;
  });
  panels[k].querySelectorAll('figure').forEach(enliven);
  const tip = document.querySelector('#tip');
  if (tip) tip.hidden = !panels[k].querySelector('.live');
  panels[k].querySelectorAll('.scroll, figure').forEach(box => {
    if (box.scrollWidth <= box.clientWidth || box.querySelector('.hint') ||
        box.nextElementSibling?.className === 'hint') return;
    const hint = document.createElement('p'), figure = box.tagName === 'FIGURE';
    hint.className = 'hint';
    hint.textContent = `Scroll the ${figure ? 'chart' : 'table'} sideways for more \u2192`;
    if (figure) box.append(hint);
    else box.after(hint);
  });
}
list.hidden = false;
show(0);
document.querySelectorAll('table.sortable').forEach(table => table.querySelectorAll('thead th').forEach((th, i) => {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = th.textContent;
  th.replaceChildren(button);
  button.onclick = () => {
    const up = th.getAttribute('aria-sort') !== 'ascending', body = table.tBodies[0],
      key = row => row.cells[i].dataset.value ?? row.cells[i].textContent;
    table.querySelectorAll('th[aria-sort]').forEach(other => other.removeAttribute('aria-sort'));
    th.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const rows = [...body.rows].sort((a, b) =>
      (key(a) - key(b) || String(key(a)).localeCompare(key(b), undefined, {numeric: true})) * (up ? 1 : -1));
    body.append(...rows);
  };
}));
