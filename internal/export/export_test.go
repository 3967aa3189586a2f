package export_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/export"
)

// event makes an event with something in every member.
func event(action audit.Action) audit.Event {
	agent := uuid.New()
	return audit.Origin{Actor: audit.Actor{Type: audit.TypeAgent, ID: agent.String()}, RequestID: "req-1", SourceIP: "192.0.2.7"}.
		Event(time.Now(), uuid.New(), action, audit.Target{Type: audit.TypeAgent, ID: agent.String()}).
		About(agent).Because("it said \"no\", \\ then\nleft ☃").
		With(audit.Details{}.String("a", "b,c").Int("n", -9_007_199_254_740_993).Bool("t", true).Strings("l", []string{"x", "é"}))
}

func entry(e audit.Event) export.Entry { return export.Entry{Sequence: 1042, Body: e.Encode()} }

// write gives one event in a format.
func write(t *testing.T, name string, e export.Entry) string {
	t.Helper()
	f, err := export.New(name, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Append(f.AppendHeader(nil), e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The canonical bytes are "{" and everything from the first "v": to the end of the
// line, as docs/audit-format.md says.
func TestALineHoldsTheCanonicalBytes(t *testing.T) {
	e := entry(event(audit.TokenIssued))
	leaf := sha256.Sum256(append([]byte{0}, e.Body...))
	proven, err := export.AppendProven(nil, e, leaf)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{write(t, export.NDJSON, e), string(proven)} {
		at := strings.Index(line, `"v":`)
		if at < 0 || "{"+strings.TrimSuffix(line[at:], "\n") != string(e.Body) || strings.Count(line, "\n") != 1 {
			t.Fatalf("the line does not hold the bytes\n%s\n%s", line, e.Body)
		}
		var read struct {
			Sequence int64
			LeafHash []byte
			ID       uuid.UUID
		}
		if err := json.Unmarshal([]byte(line), &read); err != nil || read.Sequence != 1042 || read.ID == uuid.Nil {
			t.Errorf("%s reads %+v, %v", line, read, err)
		}
		if read.LeafHash != nil && !bytes.Equal(read.LeafHash, leaf[:]) {
			t.Errorf("the leaf hash reads %x, want %x", read.LeafHash, leaf)
		}
	}
	if !strings.HasPrefix(string(proven), `{"sequence":1042,"leafHash":"`) {
		t.Errorf("the line with proof begins %.40s", proven)
	}
}

// What a decoded event is encoded as is what was stored, so that either may be
// exported.
func TestADecodedEventHasTheStoredBytes(t *testing.T) {
	for _, action := range audit.Actions() {
		e := entry(event(action))
		decoded, err := e.Event()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(decoded.Encode(), e.Body) || decoded.Sequence != e.Sequence {
			t.Errorf("the bytes are\n%s, were\n%s", decoded.Encode(), e.Body)
		}
		if id, err := e.ID(); err != nil || id != decoded.ID.String() {
			t.Errorf("the id is %s, %v; want %s", id, err, decoded.ID)
		}
	}
}

func TestTheOtherLinesAreTheDocuments(t *testing.T) {
	hash := sha256.Sum256(nil)
	const subtree = `{"leaves":[1043,1044],"hash":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}` + "\n"
	if got := string(export.AppendSubtree(nil, 1043, 1044, hash)); got != subtree {
		t.Errorf("a subtree is %s, want %s", got, subtree)
	}
	const signed = "idp.example.com/audit\n1044\n47DEQ=\n\n— idp.example.com/audit Az3g==\n"
	line := export.AppendCheckpoint(nil, []byte(signed))
	var read struct{ Checkpoint string }
	if err := json.Unmarshal(line, &read); err != nil || read.Checkpoint != signed || bytes.Count(line, []byte("\n")) != 1 || !bytes.HasPrefix(line, []byte(`{"checkpoint":"`)) {
		t.Errorf("a checkpoint is %s, %v", line, err)
	}
}

func TestARowIsReadBackByAnyReaderOfCSV(t *testing.T) {
	want := event(audit.AgentSuspended)
	rows, err := csv.NewReader(strings.NewReader(write(t, export.CSV, entry(want)))).ReadAll()
	if err != nil || len(rows) != 2 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	got := map[string]string{}
	for i, column := range rows[0] {
		got[column] = rows[1][i]
	}
	for column, value := range map[string]string{
		"sequence": "1042", "id": want.ID.String(), "time": want.Time.Format("2006-01-02T15:04:05.000000Z"), "organizationId": want.OrganizationID.String(),
		"actorType": "agent", "actorId": want.Actor.ID, "action": "agent.suspended", "targetType": "agent", "targetId": want.Target.ID,
		"agentId": want.AgentID.String(), "outcome": "success", "reason": want.Reason, "requestId": "req-1", "sourceIp": "192.0.2.7", "details": string(want.Details.JSON()),
	} {
		if got[column] != value {
			t.Errorf("%s reads %q, want %q", column, got[column], value)
		}
	}
	if len(got) != 15 {
		t.Errorf("%d columns are there, want 15", len(got))
	}
}

// cell is the reason as a reader of CSV sees it, and the row as it was written.
func cell(t *testing.T, reason string) (read, row string) {
	t.Helper()
	row = write(t, export.CSV, entry(event(audit.AgentUpdated).Because(reason)))
	_, row, _ = strings.Cut(row, "\r\n")
	r := csv.NewReader(strings.NewReader(row))
	record, err := r.Read()
	if err != nil || len(record) != 15 {
		t.Fatalf("%q: %d cells, %v", row, len(record), err)
	}
	return record[11], row
}

// A spreadsheet runs what begins so, whatever the column says it is.
func TestNoCellIsRunAsAFormula(t *testing.T) {
	for _, text := range []string{"=cmd|' /C calc'!A0", "+1", "-1+2", "@SUM(A1)", "\tx", "\rx", "\nx", "=1,\"2\"", "'=1", "＝1+1"} {
		got, row := cell(t, text)
		if want := "'" + strings.ReplaceAll(text, "\r\n", "\n"); got != want {
			t.Errorf("%q reads %q, want %q", text, got, want)
		}
		for c := range strings.SplitSeq(row, ",") {
			if c = strings.TrimPrefix(c, `"`); c != "" && strings.ContainsAny(c[:1], "=+-@\t\r\n") && c[0] != '\r' {
				t.Errorf("%q is in a cell that begins %q", text, c)
			}
		}
	}
	for _, text := range []string{"", "plain", "a=b", "1-2", "Ünï ☃", `a "b", c`, " a"} {
		if got, _ := cell(t, text); got != text {
			t.Errorf("%q reads %q", text, got)
		}
	}
}

func FuzzACellKeepsItsText(f *testing.F) {
	for _, seed := range []string{"", "=1", "'", "''=1", "a,b", "\"", "\r\n", "-\"\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(strings.ReplaceAll(text, "\r", ""), "") // a reader of CSV turns CRLF into LF
		got, _ := cell(t, text)
		if strings.TrimPrefix(got, "'") != text || got != text && got != "'"+text {
			t.Errorf("%q reads %q", text, got)
		}
		if got != "" && strings.ContainsAny(got[:1], "=+-@\t\n") {
			t.Errorf("%q is a formula", got)
		}
	})
}

func TestWhatIsNoEventIsRefusedAndWritesNothing(t *testing.T) {
	good := string(event(audit.TokenIssued).Encode())
	for _, body := range []string{
		"", "{}", "null", strings.Replace(good, `"v":1`, `"v":2`, 1), good[:len(good)-1], good[:20], strings.Replace(good, `"details":{`, `"details":[`, 1),
		"x" + good, strings.Replace(good, `"v":1,`, ``, 1),
	} {
		e := export.Entry{Sequence: 1, Body: []byte(body)}
		for _, name := range export.Names() {
			f, err := export.New(name, "")
			if err != nil {
				t.Fatal(err)
			}
			b, err := f.Append([]byte("before"), e)
			if name == export.NDJSON && strings.Contains(body, `"details":[`) {
				continue // lines of JSON are not looked into
			}
			if !errors.Is(err, export.ErrBody) || string(b) != "before" {
				t.Errorf("%s of %.40q gives %q, %v; want ErrBody", name, body, b, err)
			}
		}
		if b, err := export.AppendProven([]byte("before"), e, [32]byte{}); !strings.Contains(body, `"details":[`) && (!errors.Is(err, export.ErrBody) || string(b) != "before") {
			t.Errorf("a line with proof of %.40q gives %q, %v", body, b, err)
		}
	}
}

func TestFormatsAreKnownByName(t *testing.T) {
	for name, media := range map[string]string{export.NDJSON: "application/x-ndjson", export.OCSF: "application/x-ndjson", export.CSV: "text/csv; charset=utf-8"} {
		if f, err := export.New(name, ""); err != nil || f.MediaType != media || f.Name != name {
			t.Errorf("%s is %+v, %v", name, f, err)
		}
	}
	if f, err := export.New("xml", ""); err == nil {
		t.Errorf("xml is %+v", f)
	}
}

func BenchmarkFormats(b *testing.B) {
	e := entry(event(audit.TokenIssued))
	for _, name := range export.Names() {
		b.Run(name, func(b *testing.B) {
			f, err := export.New(name, "1.2.3")
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Append(buf, e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
