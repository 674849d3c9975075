"""The sentences of the phrasebook with a verb phrase in a clause of its own: modal brackets, the perfect,
subordinate clauses, infinitives with zu, imperatives. Notation as in phrasebook_templates; the verb phrase
"v" is in English {v base}, {v past}, {v pp}, {v ing}; in German its object {v obj} (negated {v negobj}) and
one of {v inf}, {v zu}, {v part} with {v aux}, {v pres} or {v imp} with {v prefix}.
"""

CLAUSES = """
weather_plan 3
w:weather d:time s:=we v:vp-plan
if it {w} {d}, {s} will {v base}.
wenn es {d} {w}, werden {s} {v obj} {v inf}.

+ plan 8
s:subject m:modal v:vp-plan t:time
{s} {m} {v base} {t}.
({s} {m} {t}*3|{t} {m} {s}*2) {m rest} {v obj} {v inf}.

plan_now 5
s:subject m:modal v:vp-plan
{s} {m} {v base}.
{s} {m} {m rest} {v obj} {v inf}.

+ happened 8
s:subject v:vp-past t:past
{s} {v past} {t}.
({s} {v aux} {t}*3|{t} {v aux} {s}*2) {v obj} {v part}.

already 2
s:=you v:vp-plan
have {s} already {v pp}?
{v aux} {s} schon {v obj} {v part}?

never 2
s:subject v:vp-plan
{s} {s:have/has/have} never {v pp}.
{s} {v aux} noch nie {v obj} {v part}.

doing 5
s:subject v:vp-plan t:time
{s} {s:am/is/are} {v ing} {t}.
({s} {v pres} {t}*3|{t} {v pres} {s}*2) {v obj} {v prefix}.

+ request 4
q:canyou s:=you v:vp-ask t:time
{q} {v base} {t}(|, please)?
{q} (|bitte) {t} {v obj} {v inf}?

request_now 3
q:canyou s:=you v:vp-ask
{q} {v base}(|, please)?
{q} (|bitte) {v obj} {v inf}?

please 4
s:=you v:vp-ask
please {v base}.
(bitte {v imp} {v obj}|{v imp} bitte {v obj}*2) {v prefix}.

+ dont_forget 3
s:=you v:vp-ask t:time
don't forget to {v base} {t}.
<vergessen Sie|vergiss> (|bitte) nicht, {t} {v obj} {v zu}.

+ because 4
s:pronoun v:vp-plan t:time
{s} can't come because {s} {s:have/has/have} to {v base} {t}.
{s} {s:kann/kannst/kann/können} nicht kommen, weil {s} {t} {v obj} {v inf} {s:muss/musst/muss/müssen}.

+ whether 4
s:pronoun v:vp-plan t:time
do you know (whether|if) {s} can {v base} {t}?
<wissen Sie|weißt du>, ob {s} {t} {v obj} {v inf} {s:kann/kannst/kann/können}?

+ think 4
s:pronoun v:vp-past t:past
I think (|that) {s} {v past} {t}.
ich (glaube*3|denke*2), dass {s} {t} {v obj} {v part} {v aux}.

sorry_that 3
s:=I/we v:vp-lose
I am sorry that {s} {v past}.
es tut mir leid, dass {s} {v obj} {v part} {v aux}.

if_you_want 3
s:=you v:vp-plan a:advice
if {s} (want|would like) to {v base}, {s} should {a}.
wenn {s} {v obj} {v inf} (<wollen|willst>|<möchten|möchtest>), <sollten Sie|solltest du> {a}.

+ where_can 4
s:=I/we v:vp-where
where can {s} {v base}?
wo (kann man|{s:kann/kannst/kann/können} {s}*3) {v obj} {v inf}?

when_can 3
s:subject v:vp-plan
when can {s} {v base}?
wann {s:kann/kannst/kann/können} {s} {v obj} {v inf}?

cannot 4
s:subject v:vp-plan t:time
{s} can't {v base neg} {t}.
({s} {s:kann/kannst/kann/können} {t}*3|{t} {s:kann/kannst/kann/können} {s}*2) {v negobj} {v inf}.

shall_we 2
s:=we v:vp-plan t:time
(shall we|why don't we) {v base} {t}?
(sollen|wollen) wir {t} {v obj} {v inf}?

would_you_like 3
s:=you v:vp-plan t:time
would you like to {v base} {t}?
(<möchten Sie|möchtest du>*3|<wollen Sie|willst du>) {t} {v obj} {v inf}?

had_to 4
s:subject v:vp-plan t:past
{s} had to {v base} {t}.
({s} {s:musste/musstest/musste/mussten} {t}*3|{t} {s:musste/musstest/musste/mussten} {s}*2) {v obj} {v inf}.

hope 4
s:subject v:vp-plan t:time
{s} {s:hope/hopes/hope} to {v base} {t}.
{s} {s:hoffe/hoffst/hofft/hoffen}, {t} {v obj} {v zu}.

impossible 2
s:=I/we v:vp-plan t:time
it is not possible to {v base} {t}.
(es ist {t} nicht möglich*3|leider ist es {t} nicht möglich|{t} ist es nicht möglich), {v obj} {v zu}.

may_i 3
s:=I/we v:vp-plan t:time
may {s} {v base} {t}?
({s:darf/darfst/darf/dürfen}*3|{s:kann/kannst/kann/können}) {s} {t} {v obj} {v inf}?
"""
