"""The sentences of the phrasebook about things and places (phrasebook_clauses has the rest): what they say,
in English and in German.

Each template has four lines: `name weight`, its slots (phrasebook_lexicon), the English pattern and the
German one (phrasebook_patterns). "+" at the start: in the small size too. A slot "s" is the subject:
possessives ("poss"), modal verbs and auxiliaries agree with it; `s:=I` is a fixed one. No pattern's English
depends on register or place, so the source says nothing about them. The weights keep short fixed sentences
rare, since a sample never repeats a source.
"""

THINGS = """
+ where_is 3
o:opener n:culture+monument+service+outlet+gastro+nature^
{o} where is {n def}?
{o} wo (ist*4|liegt*2|befindet sich) {n def nom}?

near_here 3
o:opener n:culture+service+outlet+gastro+nature?
{o} is there {n indef} (near here|nearby)?
{o} gibt es (hier in der Nähe*3|in der Nähe*2) {n indef acc}?

+ how_to_get 3
o:opener s:=I/we n:culture+monument+service+outlet+gastro+nature^
{o} how (do|can) {s} get to {n def}?
{o} wie ({s:komme/kommst/kommt/kommen} {s}*3|kommt man) {n def dat prep=zu}?

tell_where 3
q:canyou r:recipient n:culture+monument+landmark+service+outlet+gastro^
{q} tell {r} where {n def} is?
{q} {r} (|bitte) sagen, wo {n def nom} ist?

show_on_map 2
q:canyou r:recipient n:culture+monument+landmark+service+outlet+gastro^
{q} show {r} {n def} on the map?
{q} {r} {n def acc} auf (der Karte*3|dem Stadtplan*2) zeigen?

how_far 2
a:service+outlet+gastro b:culture+monument+landmark^
how far is it from {a def} to {b def}?
wie weit ist es {a def dat prep=von} {b def dat prep=zu}?

position 3
n:outlet+gastro^ p:next_to m:culture+monument^
{n def} is {p} {m def}.
{n def nom} (ist*2|liegt*2|befindet sich) {p} {m def dat}.

+ order_one 3
s:=I/we n:dish+plate+baking+hotdrink+colddrink+mass?
{s} would like {n indef}, please.
{s} ({s:hätte/hättest/hätte/hätten} gern*3|{s:möchte/möchtest/möchte/möchten}*2) {n indef acc}, bitte.

+ order_two 3
s:=I/we a:dish+plate+baking? b:hotdrink+colddrink?
{s} would like {a indef} and {b indef}.
{s} ({s:hätte/hättest/hätte/hätten} gern*3|{s:möchte/möchtest/möchte/möchten}*2) {a indef acc} und {b \
indef acc}.

number 2
k:number n:dish+plate+baking+ticket+gift?
(I'd like|I would like) {k} {n pl}, please.
ich (hätte gern*3|möchte*2) {k} {n zero acc pl}, bitte.

+ price 2
n:gear+luggage+eyewear+clothing+gift+device+room+reading+ticket?
(how much {n:does/do} {n this} cost|how much {n:is/are} {n this})?
(was|wie viel) {n:kostet/kosten} {n this nom}?

bill 0.2
q:canyou r:recipient b:bill
{q} bring {r} {b def}(|, please)?
{q} {r} (|bitte) {b def acc} bringen?

room_booked 1
s:subject n:room? k:number
{s} {s:have/has/have} booked {n indef} for {k} nights.
{s} {s haben} {n indef acc} für {k} Nächte (reserviert*2|gebucht*2).

table_booked 1
s:subject n:table? k:number d:day
{s} {s:have/has/have} reserved {n indef} for {k} people {d}.
({s} {s haben} {d}*2|{d} {s haben} {s}) {n indef acc} für {k} Personen reserviert.

free_room 1
n:room+table? k:number
do you have {n indef} for {k} people?
<haben Sie|hast du> {n indef acc} für {k} (Personen*3|Leute)?

staying 0.7
s:subject k:number u:unit
{s} {s:am/is/are} staying here for {k} {u}.
{s} {s:bleibe/bleibst/bleibt/bleiben} ({k} {u} hier*3|für {k} {u} hier).

departure 2
n:railway^ c:city+country d:day
(when|at what time) does {n def} to {c zero} leave {d}?
(wann*3|um wie viel Uhr) fährt {d} {n def nom} nach {c zero dat}(*2| ab)?

timetable 1
n:railway^ c:city+country h:hour
{n def} to {c zero} leaves at {h} o'clock.
({n def nom} nach {c zero dat} fährt um {h} Uhr ab*2|um {h} Uhr fährt {n def nom} nach {c zero dat} ab).

right_train 0.5
o:opener n:railway^ c:city+country
{o} is this {n def} to {c zero}?
{o} ist das {n def nom} nach {c zero dat}?

which_train 0.5
n:railway c:city+country d:day
which {n} goes to {c zero} {d}?
{n which nom} fährt {d} nach {c zero dat}?

by_train 1
s:subject c:city+country n:hire+railway d:time
{s} {s:am/is/are} going to {c zero} by {n} {d}.
({s} {s:fahre/fährst/fährt/fahren} {d}*2|{d} {s:fahre/fährst/fährt/fahren} {s}) mit {n def dat} nach {c \
zero dat}.

how_long 0.5
c:city+country n:hire+railway
how long does it take to get to {c zero} by {n}?
wie lange (dauert die Fahrt|braucht man) mit {n def dat} nach {c zero dat}?

+ seen 2
n:gear+luggage+key+eyewear+documents+ticket+device?
have you seen {n my}?
<haben Sie|hast du> {n my acc} gesehen?

not_found 2
s:subject n:gear+luggage+key+eyewear+documents+ticket+device?
{s} can't find {n poss}.
{s} ({s:finde/findest/findet/finden} {n poss acc} nicht|{s:kann/kannst/kann/können} {n poss acc} nicht \
finden).

stolen 1
n:gear+luggage+key+documents+device+ticket?
someone has stolen {n my}.
(jemand*3|man) hat mir {n my acc} gestohlen.

yours 2
n:gear+luggage+key+eyewear+documents+ticket+device+clothing?
{n:is this/are these} {n your}?
{n:ist/sind} das {n your nom}?

here_is 1
n:gear+luggage+key+eyewear+documents+ticket?
here {n:is/are} {n my}.
hier {n:ist/sind} {n my nom}.

where_bought 2
n:clothing+gear+luggage+device+gift?
where did you buy {n this}?
wo <haben Sie|hast du> {n this acc} gekauft?

that_i_bought 3
s:pronoun n:clothing+gear+luggage+device+gift? t:past
{n:this is/these are} {n def} (that|which) {s} bought {t}.
{n:das ist/das sind} {n def nom}, {n rel acc} {s} {t} gekauft {s haben}.

given_me 2
k:kin+acquaintance? n:clothing+gift+device+reading?
{k my} gave me {n indef}.
{k my nom} {k:hat/haben} mir {n indef acc} (geschenkt|gegeben).

i_gave 2
s:subject k:kin+acquaintance n:clothing+gift+device+reading? t:past
{s} gave {k poss} {n indef} {t}.
({s} {s haben} {k poss dat} {t}|{t} {s haben} {s} {k poss dat}) {n indef acc} geschenkt.

present_for 2
s:=I/we n:clothing+gift+device+reading? k:kin+acquaintance?
{s} {s:am/is/are} looking for {n indef} for {k poss}.
{s} {s:suche/suchst/sucht/suchen} {n indef acc} für {k poss acc}.

do_you_have 2
n:clothing v:variant
do you have {n this} {v}?
<haben Sie|hast du> {n this acc} (|auch) {v}?

too_big 1
n:clothing+furniture+luggage? z:too
{n this} {n:is/are} {z} for me.
{n this nom} {n:ist/sind} (mir|für mich) {z}.

too_hard 0.5
n:furniture z:uncomfortable s:=I/we
{n def} in {s:my/his/our} room {n:is/are} {z}.
({n def nom} in {s:meinem/deinem/seinem/unserem} Zimmer ist {z}*2|in {s:meinem/deinem/seinem/unserem} \
Zimmer ist {n def nom} {z}).

how_is_it 2
n:culture+gastro+room+dish+plate+furniture! d:degree
{n def noadj} {n:is/are} {d} {n pred}.
{n def nom noadj} {n:ist/sind} {d} {n pred}.

broken 1
n:fixture+switch+device+lift f:broken
{n def} {f}.
{n def nom} {f}.

broken_room 1
s:=I/we n:fixture+switch f:broken
{n def} in {s:my/his/our} room {f}.
{n def nom} in {s:meinem/deinem/seinem/unserem} Zimmer {f}.

there_is_no 1
n:furniture+bedding+fixture s:=I/we
there is no {n} in {s:my/his/our} room.
(in {s:meinem/deinem/seinem/unserem} Zimmer gibt es {n no acc}*3|es gibt {n no acc} in \
{s:meinem/deinem/seinem/unserem} Zimmer).

open_today 2
n:culture+outlet+gastro^ d:day
is {n def} open {d}?
(ist {n def nom} {d} geöffnet*3|hat {n def nom} {d} (offen|geöffnet)*3)?

closed 2
n:culture+outlet+gastro^ d:day
{n def} is closed {d}.
({n def nom} (ist {d} geschlossen*3|hat {d} zu)|{d} (ist {n def nom} geschlossen*3|hat {n def nom} zu)).

+ i_like 2
s:=I/we n:culture+monument+landmark+nature+gastro?
{s} {s:like/likes/like} {n this} very much.
({s:mir/dir/ihm/uns} gefällt {n this nom} sehr*3|{n this nom} gefällt {s:mir/dir/ihm/uns} sehr*2).

do_you_like 2
n:culture+monument+landmark+nature+gastro+clothing?
do you like {n this}?
({n:gefällt/gefallen} <Ihnen|dir> {n this nom}*3|<mögen Sie|magst du> {n this acc})?

meet_at 2
n:culture+monument+service+gastro+landmark+nature^ h:hour t:time
let's meet {n at def} at {h} o'clock {t}.
(treffen wir uns {t}|wir treffen uns {t}|{t} treffen wir uns) um {h} Uhr {n at def dat}.

waiting_at 2
s:subject n:culture+monument+service+outlet+gastro+landmark^
{s} {s:am/is/are} waiting {n at def}.
{s} {s:warte/wartest/wartet/warten} {n at def dat}.

lives_in 1
s:subject n:home!
{s} {s:live/lives/live} in {n indef}.
{s} {s:wohne/wohnst/wohnt/wohnen} in {n indef dat}.

comes_from 0.5
s:subject c:city+country
{s} {s:come/comes/come} from {c zero}.
{s} {s:komme/kommst/kommt/kommen} aus {c zero dat}.

how_are 0.3
n:kin+acquaintance
how {n:is/are} {n your}?
wie geht es {n your dat}?

hurts 0.3
n:body+bodies
{n my} {n:hurts/hurt}.
(mir {n:tut/tun} {n def nom} weh*3|{n my nom} {n:tut/tun} weh).

ill 0.7
s:subject i:illness t:since
{s} {s:have/has/have} had {i} since {t}.
({s} {s haben} seit {t}|seit {t} {s haben} {s}) {i}.

allergic 0.5
s:subject a:allergen
{s} {s:am/is/are} allergic to {a}.
{s} {s sein} (gegen {a} allergisch|allergisch gegen {a}*2).

speaks 0.7
s:subject d:howwell l:tongue
{s} {s:speak/speaks/speak} {d} {l}.
{s} {s:spreche/sprichst/spricht/sprechen} {d} {l}.

someone_speaks 0.3
o:opener l:tongue
{o} is there anyone here who speaks {l}?
{o} (gibt es hier jemanden, der {l} spricht|spricht hier jemand {l}*2)?

farewell 0.3
b:farewell w:wish
{b} and {w}.
{b} und {w}.

thanks 0.5
x:kindness
(thank you|thank you very much|thanks) for {x}.
(danke*2|vielen Dank*3) für {x}.
"""
