"""Adjectives, subjects, modal verbs and fixed phrases of the phrasebook; notation as in phrasebook_nouns.

`<>` parts the formal from the informal wording; "_" is nothing; "*3" behind the English is the weight of the
line.
"""

ADJECTIVES = """
+ old | alt
+ new | neu
+ big | groß
+ small | klein
+ beautiful | schön
+ famous | berühmt
interesting | interessant
modern | modern
nearest | nächste
+ quiet | ruhig
+ good | gut
+ cheap | billig*2 + günstig*2
nice | schön*2 + nett*2
nice#2 | nett*3 + sympathisch
expensive | teuer
+ hot | heiß
+ hot#2 | scharf
+ cold | kalt
+ fresh | frisch
ripe | reif
+ strong | stark
+ red | rot
blue | blau
green | grün
brown | braun
grey | grau
white | weiß
heavy | schwer
+ black | schwarz
warm | warm
light | leicht
light#2 | hell
elegant | elegant*3 + schick
clean | sauber
bright | hell
free | frei
next | nächste
last | letzte
fast | schnell
comfortable | bequem*3 + gemütlich
friendly | freundlich*3 + nett
young | jung
long | lang
short | kurz
"""

# English, person (0 I, 1 he, 2 you and plural), possessive; German, person, possessive
SUBJECTS = """
+ I*4 | 0 | my | ich | ich | mein
+ we*3 | 2 | our | wir | wir | unser
+ you*2 | 2 | your | Sie<>du | Sie<>du | Ihr<>dein
+ he | 1 | his | er | er | sein
+ she | 1 | her | sie | er | ihr
they | 2 | their | sie | sie | ihr
my husband | 1 | his | mein Mann | er | sein
my wife | 1 | her | meine Frau | er | ihr
our son | 1 | his | unser Sohn | er | sein
our daughter | 1 | her | unsere Tochter | er | ihr
the children | 2 | their | die Kinder | sie | ihr
"""

MODALS = """
+ want to,wants to,want to | will,willst,will,wollen*3 + möchte,möchtest,möchte,möchten*2
+ have to,has to,have to | muss,musst,muss,müssen
can,can,can | kann,kannst,kann,können
should,should,should | sollte,solltest,sollte,sollten*3 + soll,sollst,soll,sollen
+ would like to,would like to,would like to | möchte,möchtest,möchte,möchten*3 \
+ würde,würdest,würde,würden,gern
"""

PHRASES = {
    "opener": """
+ _*4 | _
+ excuse me, | Entschuldigung,*3 + Entschuldigen Sie, <> Entschuldige,*2 + Verzeihung,
+ hello, | Guten Tag, <> Hallo,@9,4,4 + Grüß Gott, <> Servus,@0,5,5
""",
    "canyou": """
+ can you*3 | können Sie <> kannst du
+ could you*2 | könnten Sie <> könntest du
""",
    "recipient": """
+ me | mir
us | uns
""",
    "howwell": """
good | gut
a little | ein bisschen*2 + ein wenig
very good | sehr gut
only a little | nur ein bisschen*2 + nur ein wenig
""",
    "time": """
+ today*2 | heute
+ tomorrow*2 | morgen
+ tonight | heute Abend
this afternoon | heute Nachmittag
+ on Monday | am Montag
+ on Saturday | am Samstag@2,5,5 + am Sonnabend@3,0,0
on Sunday | am Sonntag
next week | nächste Woche*3 + kommende Woche
at the weekend | am Wochenende
""",
    "past": """
+ yesterday*2 | gestern
+ last night | gestern Abend*3 + letzte Nacht
last week | letzte Woche*2 + vorige Woche
this morning | heute Morgen@5,3,2 + heute früh@1,2,4
+ on Friday | am Freitag
two days ago | vor zwei Tagen
""",
    "day": """
today*2 | heute
tomorrow | morgen
on Monday | am Montag
on Saturday | am Samstag@2,5,5 + am Sonnabend@3,0,0
on Sunday | am Sonntag
at the weekend | am Wochenende
""",
    "number": """
+ two | zwei
+ three | drei
four | vier
five | fünf
six | sechs
""",
    "hour": """
seven | sieben
eight | acht
nine | neun
ten | zehn
eleven | elf
""",
    "next_to": """
next to | neben
behind | hinter
in front of | vor
opposite | gegenüber
""",
    "unit": """
days | Tage
weeks | Wochen
nights | Nächte
hours | Stunden
""",
    "degree": """
very*2 | sehr
really | wirklich
not very | nicht sehr
""",
    "too": """
too big | zu groß
too small | zu klein
too expensive | zu teuer
too old | zu alt
""",
    "uncomfortable": """
too hard | zu hart
too soft | zu weich
too small | zu klein
too old | zu alt
""",
    "since": """
yesterday*2 | gestern
last night | gestern Abend
last week | letzter Woche*2 + voriger Woche
Friday | Freitag
Sunday | Sonntag
this morning | heute Morgen@5,3,2 + heute früh@1,2,4
""",
    "illness": """
a headache | Kopfschmerzen*3 + Kopfweh@1,2,4
a stomach ache | Bauchschmerzen*3 + Bauchweh@1,2,4
a temperature | Fieber
a cold | eine Erkältung*2 + einen Schnupfen
a cough | Husten
toothache | Zahnschmerzen*3 + Zahnweh@1,2,4
""",
    "allergen": """
nuts | Nüsse
milk | Milch
fish | Fisch
eggs | Eier
cats | Katzen
penicillin | Penizillin
""",
    "tongue": """
English | Englisch
German | Deutsch
French | Französisch
Italian | Italienisch
Spanish | Spanisch
""",
    "variant": """
in blue | in Blau
in red | in Rot
in black | in Schwarz
in a smaller size | eine Nummer kleiner*2 + in einer kleineren Größe
in a bigger size | eine Nummer größer*2 + in einer größeren Größe
""",
    "advice": """
call us | uns anrufen
book now | jetzt buchen*2 + jetzt reservieren
get up early | früh aufstehen
ask at reception | an der Rezeption fragen*2 + am Empfang fragen
wait a little | ein bisschen warten*2 + ein wenig warten
come with me | mit mir kommen*3 + mitkommen
""",
    "weather": """
rains*2 | regnet
snows | schneit
is cold | kalt ist
is hot | heiß ist
is windy | windig ist
""",
    "farewell": """
goodbye | auf Wiedersehen <> tschüss@9,5,3 + auf Wiederschauen <> servus@0,4,6
bye | auf Wiedersehen <> tschüss@9,5,3 + auf Wiederschauen <> servus@0,4,6
""",
    "wish": """
have a good trip | gute Reise
have a nice day | einen schönen Tag*2 + schönen Tag noch
enjoy your holiday | einen schönen Urlaub*2 + schöne Ferien
good luck | viel Glück*3 + viel Erfolg
sleep well | schlafen Sie gut <> schlaf gut
""",
    "kindness": """
your help | Ihre Hilfe <> deine Hilfe
your patience | Ihre Geduld <> deine Geduld
the invitation | die Einladung
the nice evening | den schönen Abend*2 + den netten Abend
your letter | Ihren Brief <> deinen Brief
the present | das Geschenk
the lovely trip | den schönen Ausflug*2 + die schöne Reise
""",
    "broken": """
doesn't work | funktioniert nicht*3 + geht nicht
is broken | ist kaputt*4 + ist defekt
""",
}
