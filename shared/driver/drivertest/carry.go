package drivertest

import (
	"encoding/json"
	"strings"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

func empty(s *stand) {
	d := s.open()
	s.want(s.deliver(d, nil), "")
	s.wantDelivered(d, s.events("a"))
	s.want(s.deliver(d, []driver.Event{}), "")
	s.judgeOnce()
}

func huge(s *stand) {
	s.wantDelivered(s.open(), s.mixed(3000, documents(40)...))
	s.judgeOnce()
}

func anyData(s *stand) {
	var batch []driver.Event
	for _, data := range []string{
		`{}`, `0`, `""`, `null`, `[[[[]]]]`, `{"a":"\"quoted\" \\ \u0000 \u2028 \r\n"}`, `{"b":"𝄞 é é \ud834\udd1e שלום"}`,
		`{"c":"<script>&amp;</script>"}`, `{"e":12345678901234567890.000}`, `{"id":"another","data":{"x":1},"specversion":"9"}`,
		`{"f":"` + strings.Repeat("x", 200_000) + `"}`, `{"g":"` + strings.Repeat("é", 30_000) + `"}`,
	} {
		if !json.Valid([]byte(data)) {
			s.Fatalf("not JSON: %q", data)
		}
		batch = append(batch, s.next(Key, "a", []byte(data)), s.next(Key, "b", []byte(data)))
	}
	s.wantDelivered(s.open(), batch)
	s.judgeOnce()
}

func anyDocument(s *stand) {
	ids := []string{
		"a", "A", "a.b", "a=2Eb", "a%2Eb", "a%2eb", "a b", "a+b", "a/b", "a//b", "../a", "/", ".", "..", "*", ">", "a.*.>", "$SYS", "_INBOX.x",
		`"`, `'`, `\`, "{app}", "{org}", "a:b", "a,b", "a;b=c", "a?b#c", "é", "é", "𝄞", "日本語", " a", "a ", "-", "_test", "=", "%", "%00",
		"a=b", "a|b", "a&b<c>", strings.Repeat("x", 120),
	}
	d := s.open()
	s.wantDelivered(d, s.events(append(ids, ids...)...))
	s.wantDelivered(d, s.events(ids...))
	s.judgeOnce()
}
