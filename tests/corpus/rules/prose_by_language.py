"""The same plain prose in several languages, by py3langid's codes, written for these tests."""
# ruff: noqa: E501, RUF001 (a paragraph is a line, and its punctuation is its script's)

PROSE_BY_LANGUAGE = {
    "de": """Die Wärterin des Leuchtturms stand vor der Sonne auf und stieg die Treppe zur Lampe hinauf. Das tat sie seit dreißig Jahren, und ihre Knie erzählten ihr von jedem einzelnen davon.
An diesem Morgen lag das Meer still, und ein Boot mit zwei Männern und einem Hund kam um die Landspitze. Seit dem Winter hatte niemand sie besucht, und sie ging hinunter, um ihnen zu begegnen.
Sie brachten Brot, einen Brief aus dem Hafen und die Nachricht von einem Krieg, der damals schon vorbei war. Der Hund sollte ihr gehören, sagten sie, damit sie Gesellschaft hatte und die Möwen von den Hühnern fernblieben.""",
    "fr": """La gardienne du phare se leva avant le soleil et monta l'escalier qui menait à la lampe. Elle le faisait depuis trente ans, et ses genoux lui parlaient de chacune de ces années.
Ce matin-là, la mer était plate, et une barque avec deux hommes et un chien contourna la pointe. Personne n'était venu la voir depuis l'hiver, et elle descendit à leur rencontre.
Ils avaient du pain, une lettre du port et des nouvelles d'une guerre qui était déjà finie. Le chien serait à elle, dirent-ils, pour lui tenir compagnie et pour éloigner les mouettes des poules.""",
    "es": """La guardiana del faro se levantó antes que el sol y subió la escalera hasta la lámpara. Lo había hecho durante treinta años, y sus rodillas le hablaban de cada uno de ellos.
Aquella mañana el mar estaba en calma, y una barca con dos hombres y un perro dobló la punta. Nadie había venido a verla desde el invierno, y ella bajó a su encuentro.
Traían pan, una carta del puerto y noticias de una guerra que ya había terminado. El perro sería para ella, dijeron, para que le hiciera compañía y apartara las gaviotas de las gallinas.""",
    "ru": """Смотрительница маяка встала раньше солнца и поднялась по лестнице к лампе. Так она делала уже тридцать лет, и её колени напоминали ей о каждом из них.
В то утро море было спокойно, и лодка с двумя мужчинами и собакой обогнула мыс. Никто не приезжал к ней с самой зимы, и она спустилась вниз, чтобы встретить гостей.
Они привезли хлеб, письмо из гавани и новости о войне, которая к тому времени уже кончилась. Собака останется у неё, сказали они, чтобы ей не было скучно и чтобы чайки не подходили к курам. Она поблагодарила их и долго смотрела, как лодка уходит в море.""",
    "pl": """Strażniczka latarni morskiej wstała przed słońcem i weszła po schodach do lampy. Robiła to od trzydziestu lat, a jej kolana opowiadały jej o każdym z nich.
Tego ranka morze było spokojne i łódź z dwoma mężczyznami i psem opłynęła cypel. Nikt nie odwiedził jej od zimy, więc zeszła na dół, żeby ich przywitać.
Przywieźli chleb, list z portu i wiadomość o wojnie, która już się wtedy skończyła. Pies miał należeć do niej, powiedzieli, żeby nie była sama i żeby mewy trzymały się z daleka od kur. Podziękowała im i długo patrzyła, jak łódź odpływa.""",
    "tr": """Deniz fenerinin bekçisi güneşten önce kalktı ve lambaya giden merdiveni çıktı. Bunu otuz yıldır yapıyordu ve dizleri ona bu yılların her birini hatırlatıyordu.
O sabah deniz durgundu ve içinde iki adam ile bir köpek olan bir kayık burnu dolaştı. Kıştan beri onu görmeye kimse gelmemişti, bu yüzden onları karşılamak için aşağıya indi.
Ekmek, limandan bir mektup ve o zamana kadar çoktan bitmiş olan bir savaşın haberini getirmişlerdi. Köpek onun olacaktı, dediler, hem ona arkadaş olsun hem de martıları tavuklardan uzak tutsun diye. Onlara teşekkür etti ve kayığın gidişini uzun süre izledi.""",
    "fi": """Majakan vartija nousi ennen aurinkoa ja kiipesi portaat ylös lampun luo. Hän oli tehnyt niin jo kolmekymmentä vuotta, ja hänen polvensa kertoivat niistä jokaisesta.
Sinä aamuna meri oli tyyni, ja vene, jossa oli kaksi miestä ja koira, kiersi niemen. Kukaan ei ollut käynyt hänen luonaan talven jälkeen, joten hän meni alas heitä vastaan.
Heillä oli leipää, kirje satamasta ja uutisia sodasta, joka oli siihen mennessä jo päättynyt. Koira jäisi hänelle, he sanoivat, jotta hänellä olisi seuraa ja jotta lokit pysyisivät poissa kanojen luota. Hän kiitti heitä ja katsoi pitkään, kun vene lähti.""",
    "el": """Η φύλακας του φάρου σηκώθηκε πριν από τον ήλιο και ανέβηκε τη σκάλα ως τη λάμπα. Το έκανε εδώ και τριάντα χρόνια, και τα γόνατά της της μιλούσαν για το καθένα από αυτά.
Εκείνο το πρωί η θάλασσα ήταν ήρεμη, και μια βάρκα με δύο άντρες και έναν σκύλο φάνηκε από το ακρωτήρι. Κανείς δεν είχε έρθει να τη δει από τον χειμώνα, και κατέβηκε να τους συναντήσει.
Είχαν ψωμί, ένα γράμμα από το λιμάνι και νέα για έναν πόλεμο που είχε πια τελειώσει. Ο σκύλος θα ήταν δικός της, είπαν, για να έχει παρέα και για να διώχνει τους γλάρους από τις κότες.""",
    "ar": """استيقظت حارسة المنارة قبل شروق الشمس وصعدت الدرج إلى المصباح. كانت تفعل ذلك منذ ثلاثين عاما، وكانت ركبتاها تحدثانها عن كل عام من تلك الأعوام.
في ذلك الصباح كان البحر هادئا، وجاء من وراء الرأس قارب فيه رجلان وكلب. لم يزرها أحد منذ الشتاء، فنزلت لكي تلتقي بهم. هل جاؤوا من المدينة؟
كان معهم خبز ورسالة من الميناء وأخبار عن حرب انتهت في ذلك الوقت. قالوا إن الكلب سيكون لها، حتى لا تبقى وحدها وحتى تبتعد النوارس عن الدجاج. شكرتهم ونظرت طويلا إلى القارب وهو يبتعد في البحر.""",
    "hi": """प्रकाशस्तंभ की रखवाली करने वाली औरत सूरज से पहले उठी और सीढ़ियाँ चढ़कर दीपक तक गई। वह तीस साल से ऐसा कर रही थी, और उसके घुटने उसे हर साल की याद दिलाते थे।
उस सुबह समुद्र शांत था, और दो आदमियों और एक कुत्ते के साथ एक नाव किनारे की ओर आई। सर्दियों के बाद से कोई उससे मिलने नहीं आया था, इसलिए वह उनसे मिलने नीचे गई।
उनके पास रोटी, बंदरगाह से एक चिट्ठी और एक युद्ध की खबर थी जो तब तक खत्म हो चुका था। उन्होंने कहा कि कुत्ता अब उसका होगा, ताकि उसका मन लगा रहे और पक्षी मुर्गियों से दूर रहें। उसने उन्हें धन्यवाद दिया और देर तक नाव को जाते हुए देखती रही।""",
    "ko": """등대를 지키는 여자는 해가 뜨기 전에 일어나 등불이 있는 곳까지 계단을 올라갔다. 그는 삼십 년 동안 그렇게 해 왔고, 그의 무릎은 그 모든 해를 기억하고 있었다.
그날 아침 바다는 잔잔했고, 두 남자와 개 한 마리를 태운 배가 곶을 돌아 들어왔다. 겨울이 지난 뒤로 아무도 찾아오지 않았기 때문에, 그는 그들을 만나러 아래로 내려갔다.
그들은 빵과 항구에서 온 편지, 그리고 이미 끝난 전쟁에 대한 소식을 가지고 있었다. 그들은 이 개가 이제 그의 것이며, 외롭지 않게 해 주고 또한 갈매기가 닭에게 가까이 오지 못하게 할 것이라고 말했다. 그는 고맙다고 하고 배가 멀어지는 것을 오래 바라보았다.""",
    "zh": """看守灯塔的女人在太阳升起之前就起了床，沿着楼梯走到灯的旁边。这件事她已经做了三十年，她的膝盖记得其中的每一年。
那天早晨，海面很平静，一条小船绕过海角，船上有两个男人和一只狗。从冬天以来，没有人来看过她，所以她走下去迎接他们。
他们带来了面包、一封港口寄来的信，还有一场战争的消息，而那时战争已经结束了。他们说，这只狗以后就是她的，可以陪着她，也可以不让海鸥靠近母鸡。她谢过他们，站在岸边，看着小船慢慢走远。“明年还来吗？”她问。他们说会来的。""",
    "ja": """灯台を守る女は、日が昇る前に起きて、灯のある部屋まで階段を上った。彼女はそれを三十年も続けており、その一年一年を膝が覚えていた。
その朝、海は静かで、二人の男と一匹の犬を乗せた小舟が岬を回ってきた。冬からずっと誰も訪ねてこなかったので、彼女は下りていって彼らを迎えた。
彼らはパンと、港からの手紙と、もう終わってしまった戦争の知らせを持っていた。この犬はあなたのものだ、と彼らは言った。寂しくないように、そして鶏にカモメが近づかないように。彼女は礼を言い、小舟が遠くなるまで長いあいだ見送っていた。""",
    "th": """ผู้หญิงที่ดูแลประภาคารตื่นก่อนพระอาทิตย์ขึ้นและเดินขึ้นบันไดไปยังดวงไฟ เธอทำเช่นนี้มาเป็นเวลาสามสิบปีแล้ว และเข่าของเธอก็จำได้ทุกปี
เช้าวันนั้นทะเลสงบ และมีเรือลำหนึ่งที่มีผู้ชายสองคนกับสุนัขหนึ่งตัวอ้อมแหลมเข้ามา ไม่มีใครมาเยี่ยมเธอเลยตั้งแต่ฤดูหนาว เธอจึงเดินลงไปพบพวกเขา
พวกเขานำขนมปัง จดหมายจากท่าเรือ และข่าวของสงครามที่จบไปแล้วในตอนนั้นมาด้วย พวกเขาบอกว่าสุนัขตัวนี้จะเป็นของเธอ เพื่อให้เธอไม่ต้องอยู่คนเดียวและเพื่อไม่ให้นกเข้าใกล้แม่ไก่ เธอขอบคุณพวกเขาและยืนมองเรือที่แล่นออกไปเป็นเวลานาน""",
    "vi": """Người phụ nữ trông coi ngọn hải đăng dậy trước khi mặt trời mọc và leo lên cầu thang đến chỗ ngọn đèn. Bà đã làm như vậy trong ba mươi năm, và đôi đầu gối của bà nhớ từng năm một.
Sáng hôm đó biển lặng, và một chiếc thuyền chở hai người đàn ông và một con chó đi vòng qua mũi đất. Từ mùa đông đến nay không có ai đến thăm, nên bà đi xuống để gặp họ.
Họ mang theo bánh mì, một lá thư từ bến cảng và tin tức về một cuộc chiến tranh lúc đó đã kết thúc. Họ nói rằng con chó sẽ là của bà, để bà không phải sống một mình và để chim không đến gần đàn gà. Bà cảm ơn họ và đứng nhìn theo con thuyền rất lâu.""",
    "he": """שומרת המגדלור קמה לפני השמש ועלתה במדרגות אל המנורה. היא עשתה זאת כבר שלושים שנה, והברכיים שלה סיפרו לה על כל אחת מהן.
באותו בוקר היה הים שקט, וסירה עם שני גברים וכלב הקיפה את הכף. מאז החורף לא בא איש לבקר אותה, והיא ירדה למטה כדי לפגוש אותם. האם הם באו מן העיר?
הם הביאו לחם, מכתב מן הנמל וחדשות על מלחמה שכבר הסתיימה אז. הם אמרו כי הכלב יהיה שלה, כדי שלא תהיה לבד וכדי שהשחפים לא יתקרבו אל התרנגולות. היא הודתה להם, והביטה זמן רב בסירה עד שזו נעלמה בין הגלים.""",
    "my": """မီးပြတိုက်ကို စောင့်ရှောက်သော အမျိုးသမီးသည် နေမထွက်မီ အိပ်ရာမှ ထပြီး မီးအိမ်ရှိရာသို့ လှေကားဖြင့် တက်သွားသည်။ သူသည် ဤအလုပ်ကို အနှစ်သုံးဆယ် လုပ်ခဲ့ပြီး ဖြစ်သည်။ သူ၏ ဒူးများက ထိုနှစ်များကို မှတ်မိနေသည်။
ထိုနေ့ မနက်တွင် ပင်လယ်သည် ငြိမ်သက်နေပြီး လူနှစ်ယောက်နှင့် ခွေးတစ်ကောင် ပါသော လှေတစ်စင်း ရောက်လာသည်။ ဆောင်းရာသီမှ စ၍ မည်သူမျှ သူ့ထံသို့ မလာခဲ့သောကြောင့် သူသည် သူတို့နှင့် တွေ့ဆုံရန် အောက်သို့ ဆင်းသွားသည်။
သူတို့သည် ပေါင်မုန့်၊ ဆိပ်ကမ်းမှ စာတစ်စောင်နှင့် ပြီးဆုံးသွားပြီ ဖြစ်သော စစ်ပွဲ သတင်းကို ယူလာကြသည်။ ဤခွေးသည် သူ၏ခွေး ဖြစ်မည်ဟု သူတို့က ပြောသည်။""",
}
