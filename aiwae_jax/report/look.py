"""How a page looks, on screens wide and narrow, by day and by night; and its one script."""

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --card: #f7f8fa; --ink: #1d2129;
  --faint: #5c6470; --line: #dfe3e8; --accent: #1f6fd1;
  --good: #1a7f4b; --care: #9a6700; --bad: #c0293b; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f1216; --card: #171b21; --ink: #e6e9ee;
  --faint: #a0a8b4; --line: #2b313a; --accent: #6aaeff;
  --good: #4cc38a; --care: #e3b341; --bad: #ff7b86; } }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  sans-serif; color: var(--ink); background: var(--paper); max-width: 76rem; margin: 0 auto;
  padding: 2.2rem 1.25rem 4rem; }
header p { margin: .2rem 0 0; color: var(--faint); }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem; padding-top: .9rem;
  border-top: 1px solid var(--line); }
h3 { font-size: .95rem; margin: 0 0 .5rem; }
.headline { --tone: var(--good); background: var(--card); border: 1px solid var(--line);
  border-left: 5px solid var(--tone); border-radius: 8px; padding: .9rem 1.1rem; margin: 1.3rem 0; }
.headline.care { --tone: var(--care); } .headline.bad { --tone: var(--bad); }
.headline p { margin: 0; font-size: 1.12rem; }
.headline .verdict { font-size: .82rem; font-weight: 650; letter-spacing: .02em;
  color: var(--tone); margin-bottom: .3rem; }
.note { color: var(--faint); font-size: .9rem; max-width: 62rem; margin: .5rem 0; }
.warning { border: 1px solid var(--line); border-left: 5px solid var(--care);
  background: var(--card); border-radius: 8px; padding: .6rem .9rem; max-width: 62rem; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr));
  gap: .6rem 2.2rem; align-items: start; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem;
  margin: .3rem 0 .8rem; }
th, td { padding: .32rem .8rem; text-align: right; white-space: nowrap; font-weight: 400; }
th:first-child { text-align: left; padding-left: 0; white-space: normal; }
thead th { color: var(--faint); border-bottom: 1px solid var(--line); font-size: .85rem; }
th.group { color: var(--faint); font-weight: 650; font-size: .85rem; padding-top: .8rem; }
.figures + h3 { margin-top: 1.6rem; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
.figures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.1rem; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .9rem 1rem; min-width: 0; }
figure.wide, figure:only-child, figure:first-child:has(+ .wide) { grid-column: 1 / -1; }
img { display: block; width: auto; max-width: 100%; max-height: 34rem; height: auto;
  margin: 0 auto; }
figcaption { color: var(--faint); font-size: .86rem; margin-top: .6rem; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .8rem 1rem; margin: 0 0 .6rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: .86rem; }
.button, button { display: inline-block; font: inherit; font-size: .88rem; color: var(--accent);
  background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: .3rem .75rem; margin: 0 .5rem .5rem 0; text-decoration: none; cursor: pointer; }
.button:hover, button:hover { border-color: var(--accent); }
details { border-top: 1px solid var(--line); padding: .5rem 0; }
summary { cursor: pointer; font-weight: 600; font-size: .95rem; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .15rem 1.2rem;
  font-size: .9rem; margin: .6rem 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 52rem) { .figures { grid-template-columns: minmax(0, 1fr); }
  body { padding: 1.2rem .9rem 3rem; } h1 { font-size: 1.35rem; }
  figure.wide img { width: 42rem; max-width: none; }
  .headline p { font-size: 1.02rem; } th, td { padding: .3rem .5rem; } figure { padding: .7rem; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .35rem; } }
@media print { .button, button { display: none; } figure { break-inside: avoid; } }
"""

# Without it the page lacks a button, and nothing else.
SCRIPT = """
for (const pre of document.querySelectorAll("pre")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.onclick = async () => {
    try { await navigator.clipboard.writeText(pre.textContent); }
    catch {
      getSelection().selectAllChildren(pre);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  pre.after(button);
}
"""
