"""The style sheet of every page: light and dark by the reader's preference, one column on a phone, a palette of six hues that
stay apart for colour-blind readers (differences in lightness as well as hue, after Okabe and Ito 2008)."""

CSS = """
:root{color-scheme:light dark;--bg:#f7f7f5;--card:#fff;--line:#e4e4df;--soft:#f1f1ed;--ink:#1b1d20;--muted:#5f646c;
--faint:#9a9ea5;
--c0:#2563c9;--c1:#c2510c;--c2:#0b7f6b;--c3:#8a3fa8;--c4:#a87a00;--c5:#3a9bd6;--good:#0b7f6b;--bad:#b3380a;
--warnbg:#fdf3dc;--warnink:#6b4a00;
--ins:#d5efe6;--del:#fbe0d3}
@media (prefers-color-scheme:dark){:root{--bg:#101214;--card:#181b1e;--line:#2c3035;--soft:#1f2327;--ink:#e9eaec;
--muted:#a2a7ae;--faint:#70767e;
--c0:#6aa5ff;--c1:#ff9a5b;--c2:#4bcdb0;--c3:#cb92e6;--c4:#e5bd4a;--c5:#8fd3ff;--good:#4bcdb0;--bad:#ff9a5b;
--warnbg:#2f2712;--warnink:#f0d48a;
--ins:#173a32;--del:#44271a}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-padding-top:3.4rem}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums}
header,main,footer{max-width:1200px;margin:0 auto;padding:0 24px}
header{padding-top:30px}main{padding-top:20px}
h1{font-size:1.65rem;line-height:1.2;margin:0 0 4px;letter-spacing:-.015em;overflow-wrap:anywhere}
h2{font-size:1.12rem;margin:38px 0 12px;letter-spacing:-.01em}
h3{font-size:.92rem;margin:0 0 8px;font-weight:600}
p{margin:0 0 10px}a{color:var(--c0)}
.muted{color:var(--muted)}.small{font-size:.84rem}.empty{color:var(--muted);font-style:italic}
.lead{color:var(--muted);margin-bottom:18px}
nav{position:sticky;top:0;z-index:2;background:var(--bg);border-bottom:1px solid var(--line)}
nav ul{max-width:1200px;margin:0 auto;padding:0 24px;display:flex;gap:20px;list-style:none;overflow-x:auto;
scrollbar-width:none}
nav a{display:block;padding:11px 0;white-space:nowrap;color:var(--muted);text-decoration:none;font-size:.88rem}
nav a:hover{color:var(--ink)}a:focus-visible,summary:focus-visible,.scroll:focus-visible{
outline:2px solid var(--c0);outline-offset:2px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(158px,1fr));gap:12px;margin:0 0 22px;padding:0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px;min-width:0}
.tile dt{color:var(--muted);font-size:.8rem}.tile dd{margin:2px 0 0;font-size:1.34rem;font-weight:620;
letter-spacing:-.015em;overflow-wrap:anywhere}
.tile dd small{display:block;color:var(--muted);font-size:.78rem;font-weight:400;letter-spacing:0}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:14px}
.pair{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:14px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px;min-width:0;margin:0}
.card+.card.stack,.stack{margin-bottom:14px}
.banner{background:var(--warnbg);color:var(--warnink);border-radius:10px;padding:11px 15px;margin:0 0 18px}
.banner p:last-child{margin:0}.warn{color:var(--bad)}
.scroll{overflow-x:auto}.after{margin-top:12px}.scroll+p,.pair+p,.grid+p{margin:10px 0 0}
table{border-collapse:collapse;width:100%;font-size:.89rem}
caption{text-align:left;color:var(--muted);font-size:.84rem;padding-bottom:6px}
th,td{padding:7px 12px 7px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
tr:last-child>*{border-bottom:0}
thead th{color:var(--muted);font-weight:500;font-size:.8rem;white-space:nowrap}
tbody th{font-weight:600}
.n{text-align:right;white-space:nowrap}.nowrap{white-space:nowrap}td .sub,th .sub{display:block;color:var(--muted);
font-size:.8rem;font-weight:400}
.n+td:not(.n),.n+th:not(.n){padding-left:18px}td:last-child,th:last-child{padding-right:0}
code,pre,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.85em}
.hash{color:var(--faint);overflow-wrap:anywhere;font-size:.76rem}.hash b{color:var(--ink);font-weight:600}
pre{margin:0;overflow-x:auto;line-height:1.5;tab-size:2}
.up{color:var(--good)}.down{color:var(--bad)}.best{font-weight:680}
.chip{display:inline-block;border:1px solid var(--line);background:var(--soft);border-radius:99px;padding:0 9px;
font-size:.78rem;color:var(--muted);white-space:nowrap}
.chip.up{border-color:currentColor;color:var(--good)}.chip.down{border-color:currentColor;color:var(--bad)}
.chips{display:flex;flex-wrap:wrap;gap:6px;margin:0 0 8px;padding:0;list-style:none}
.sample{margin-bottom:14px}
.prompt{white-space:pre-wrap;overflow-wrap:anywhere;margin:0 0 12px;font-weight:550}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,250px),1fr));gap:12px}
.side{background:var(--soft);border-radius:8px;padding:10px 13px;min-width:0}
.side h4{margin:0 0 5px;font-size:.79rem;font-weight:500;color:var(--muted);display:flex;
justify-content:space-between;gap:8px}
.side h4 b{color:var(--ink);font-weight:640}
.answer{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;max-height:22rem;overflow-y:auto}
ins,del{text-decoration:none;border-radius:3px;padding:0 1px}ins{background:var(--ins)}del{background:var(--del)}
details>summary{cursor:pointer;color:var(--muted);font-size:.88rem;padding:5px 0}
details[open]>summary{margin-bottom:8px}
.key{list-style:none;display:flex;flex-wrap:wrap;gap:4px 20px;margin:10px 0 0;padding:0;font-size:.87rem}
.key svg{width:10px;height:10px;margin-right:6px}
.facts{display:grid;grid-template-columns:minmax(7rem,max-content) 1fr;gap:4px 18px;margin:0;font-size:.89rem}
.facts dt{color:var(--muted)}.facts dd{margin:0;overflow-wrap:anywhere}
.flow{display:grid;grid-template-columns:1fr 1.5rem 1fr 1.5rem 1fr;align-items:center;gap:8px}
.flow .arrow{text-align:center;color:var(--faint)}
.flow ul{list-style:none;margin:0;padding:0}.flow li{background:var(--soft);border-radius:8px;padding:7px 11px;
margin:4px 0;font-size:.87rem;overflow-wrap:anywhere}
.flow li code{display:block;color:var(--muted)}
footer{color:var(--muted);font-size:.83rem;padding-top:30px;padding-bottom:44px}
.plot{display:block;width:100%;height:auto;overflow:visible}.strip{height:18px;border-radius:5px;overflow:hidden}
.square{max-width:340px}
.t{font-size:11px;fill:var(--ink)}.tick{fill:var(--muted);font-size:10.5px}.name{fill:var(--muted);
font-size:10.5px}.value{fill:var(--muted);font-size:10.5px}
.strong{font-weight:600}.t.mono{font-size:11px}
.grid>line{stroke:var(--line)}line.grid{stroke:var(--line);stroke-width:1}.axis{stroke:var(--faint);stroke-width:1}
.reference{stroke:var(--faint);stroke-width:1.2;stroke-dasharray:4 4}
.curve{fill:none;stroke-width:1.9;stroke-linejoin:round;stroke-linecap:round}.raw{fill:none;stroke-width:1;
opacity:.28}
.band{stroke:none;opacity:.16}.bar{opacity:.62}.hit{fill:transparent}.hid{opacity:0}.hover:hover .hid{opacity:1}
.cross{stroke:var(--faint);stroke-width:1}
.mark.hover:hover .hit{fill:var(--soft)}
.whisker{stroke-width:2.2;stroke-linecap:round;opacity:.55}.joint{stroke-width:2;opacity:.5}
.hollow{fill:var(--card);stroke:var(--muted);stroke-width:1.6}.fill{stroke:var(--card);stroke-width:1}
@media (max-width:640px){header,main,footer,nav ul{padding-left:15px;padding-right:15px}header{padding-top:20px}
h1{font-size:1.35rem}
.tiles{grid-template-columns:1fr 1fr;gap:9px}.tile{padding:10px 12px}.tile dd{font-size:1.14rem}
.flow{grid-template-columns:1fr}.flow .arrow{transform:rotate(90deg)}
.card{padding:12px 13px}.facts{grid-template-columns:minmax(5.5rem,max-content) 1fr}tbody th{position:sticky;
left:0;background:var(--card);background-clip:padding-box}
.t{font-size:12.5px}.tick,.name,.value{font-size:12px}.t.mono{font-size:12.5px}.wide{min-width:620px}}
@media print{nav{display:none}body{background:#fff}.card,.tile{break-inside:avoid}}
""" + "".join(
    f".curve.c{i},.raw.c{i},.whisker.c{i},.joint.c{i}{{stroke:var(--c{i})}}"
    f".fill.c{i},.band.c{i},.bar.c{i},.part.c{i}{{fill:var(--c{i})}}"
    for i in range(6)
)
