"""Verbs and verb phrases with what they take.

`base/past/participle/ing | German + German | frame | kinds:determiners … | flags`. The frame is the object's
case, with a preposition (`prep=mit dat`; `into` is that of the place, with the accusative), or "=" and fixed
words. Flags: p may be planned, a may be asked of someone, x may have happened, w goes with "where can I
…?", l with "I am sorry that …".
"""

VERBS = """
+ visit | besichtigen*2 + besuchen | acc | monument:def,indef | px
visit | besuchen | acc | culture:def,indef | px
+ visit | besuchen | acc | kin:poss acquaintance:poss | px
see/saw/seen | sehen:siehst,sieht,gesehen,sieh | acc | monument+landmark+nature:def | px
photograph | fotografieren | acc | monument+landmark:def | px
+ buy/bought | kaufen | acc \
| ticket:def,indef gift:indef clothing:indef,def luggage:indef,def produce:indef,def baking:indef \
device:def,indef | paxw
+ order | bestellen | acc | dish+plate:def,indef baking:indef hotdrink:indef colddrink:indef | paxw
eat/ate/eaten | essen:isst,isst,gegessen,iss | acc \
| dish+plate:def,indef baking:indef,def produce:def,indef | px
drink/drank/drunk | trinken:trinkst,trinkt,getrunken | acc \
| hotdrink:indef,def colddrink:indef,def mass:indef | px
try/tried | probieren | acc | dish+plate:def baking:def produce:def | px
book | buchen:buchst,bucht,gebucht,buche + reservieren | acc | room:indef,def | paxw
reserve/reserved/reserved/reserving | reservieren | acc | table:indef,def | paxw
rent | mieten*3 + aus|leihen:leihst,leiht,geliehen | acc | hire:indef | pxw
+ look for | suchen | acc \
| documents+ticket:poss gear+luggage+key+eyewear:poss,def device:poss service:indef outlet:indef | px
+ find/found | finden:findest,findet,gefunden | acc \
| documents+ticket:poss gear+luggage+key+eyewear:poss,def device:poss service:def outlet:def | xw
+ lose/lost/lost/losing | verlieren:verlierst,verliert,verloren | acc \
| documents+ticket:poss gear+luggage+key+eyewear:poss device:poss | xl
forget/forgot/forgotten/forgetting | vergessen:vergisst,vergisst,vergessen,vergiss | acc \
| documents+ticket:poss gear+luggage+key+eyewear:poss device:poss | xl
pack | ein|packen | acc | clothing:poss,def device:def,poss toiletry+bedding:def | pax
+ bring/brought | mit|bringen:bringst,bringt,gebracht | acc \
| gear+luggage:poss,def documents+ticket:poss kin:poss | px
+ show/showed/shown | zeigen*3 + vor|zeigen | acc | documents+ticket:poss | px
pay/paid | bezahlen*3 + zahlen@1,1,3 | acc | bill:def | pax
repair | reparieren | acc | hire:def device:def,poss switch+fixture:def | pax
sell/sold | verkaufen | acc | hire:poss,def device:poss | px
clean | putzen*2 + reinigen*2 | acc | opening:def | pa
open/opened/opened/opening | öffnen*2 + auf|machen*2 | acc | opening:def | pax
close/closed/closed/closing | schließen:schließt,schließt,geschlossen*2 + zu|machen*2 | acc \
| opening:def | pax
+ pick up | ab|holen | acc \
| kin:poss acquaintance:poss luggage:poss,def key:poss,def documents+ticket:poss | pax
call | an|rufen:rufst,ruft,gerufen | acc | kin:poss acquaintance:poss staff:def | pax
+ invite/invited/invited/inviting | ein|laden:lädst,lädt,geladen,lade | acc \
| kin:poss acquaintance:poss | pax
meet/met/met/meeting | treffen:triffst,trifft,getroffen,triff | acc | kin:poss acquaintance:poss | px
ask | fragen | acc | kin:poss acquaintance:poss staff:def,indef | pax
+ help | helfen:hilfst,hilft,geholfen,hilf | dat | kin:poss acquaintance:poss staff:def | pax
thank | danken:dankst,dankt,gedankt,danke | dat | kin:poss acquaintance:poss staff:def | pax
talk to | sprechen:sprichst,spricht,gesprochen,sprich | prep=mit dat \
| kin:poss acquaintance:poss staff:def,indef | pax
+ wait for | warten | prep=auf acc | kin:poss acquaintance:poss railway:def | px
write to/wrote/written/writing | schreiben:schreibst,schreibt,geschrieben | dat \
| kin:poss acquaintance:poss | pax
travel with/travelled/travelled/travelling | reisen:reist,reist,gereist,reise(sein) | prep=mit dat \
| kin:poss acquaintance:poss | px
+ go to/went/gone | gehen:gehst,geht,gegangen(sein) | into | culture:def gastro:indef,def | px
+ go to/went/gone | gehen:gehst,geht,gegangen(sein) | prep=zu dat | service:def outlet:def monument:def | px
+ travel to/travelled/travelled/travelling | fahren:fährst,fährt,gefahren,fahr(sein)*2 \
+ reisen:reist,reist,gereist,reise(sein) | prep=nach dat | city+country:zero | px
fly to/flew/flown | fliegen:fliegst,fliegt,geflogen(sein) | prep=nach dat | city+country:zero | px
read/read/read | lesen:liest,liest,gelesen,lies | acc | reading:indef,def | px
write/wrote/written | schreiben:schreibst,schreibt,geschrieben | acc | mail:indef | px
send/sent | schicken*3 + senden:sendest,sendet,gesendet | acc | mail:indef,def | pax
turn off | aus|schalten + aus|machen | acc | switch:def | pax
turn on | ein|schalten@2,2,3 + an|machen@2,2,1 | acc | switch:def | pax
try on/tried | an|probieren | acc | clothing:def,indef | pxw
exchange/exchanged/exchanged/exchanging | um|tauschen | acc | clothing:def,poss | pxw
carry/carried/carried/carrying | tragen:trägst,trägt,getragen | acc | luggage:def,poss | pax
learn | lernen | acc | language:indef | px
change/changed/changed/changing | wechseln | acc | money:indef | pxw
+ go home/went/gone | gehen:gehst,geht,gegangen(sein)*2 + fahren:fährst,fährt,gefahren,fahr(sein) \
| =nach Hause | - | px
+ go shopping/went/gone | gehen:gehst,geht,gegangen(sein) | =einkaufen | - | px
go dancing/went/gone | gehen:gehst,geht,gegangen(sein) | =tanzen | - | px
go for a walk/went/gone | gehen:gehst,geht,gegangen(sein) | =spazieren | - | px
leave/left | los|fahren:fährst,fährt,gefahren,fahr(sein)*2 + ab|reisen:reist,reist,gereist,reise(sein) \
| = | - | px
stay at a hotel/stayed | übernachten:übernachtest,übernachtet,übernachtet | =in einem Hotel | - | px
cook | kochen | = | - | px
come back/came/come/coming | zurück|kommen:kommst,kommt,gekommen(sein) | = | - | px
swim in the lake/swam/swum/swimming | schwimmen:schwimmst,schwimmt,geschwommen(sein) + baden | =im See \
| - | px
eat out/ate/eaten/eating | gehen:gehst,geht,gegangen(sein) | =essen | - | px
"""
