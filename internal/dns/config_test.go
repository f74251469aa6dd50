package dns

import (
	"strings"
	"testing"

	"makeitso/internal/fault"
)

func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 64)
	for text, want := range map[string]string{
		"WWW.Example.com": "www.example.com.", "example.com.": "example.com.", `\052.example.com`: "*.example.com.",
		"*.example.com": "*.example.com.", `_a.\141.test`: "_a.a.test.", `a\100b.test`: `a\@b.test.`, "a@b.test": `a\@b.test.`,
		"": "!", ".": "!", "a..b": "!", long + ".test": "!", "a b.test": "!", `\05`: "!", `\999.test`: "!", `\`: "!", "ä.test": "!",
	} {
		got, err := Name(text)
		if err != nil && fault.Is(err, fault.Invalid) {
			got = "!"
		}
		if got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for _, typ := range Types() {
		value := example(typ)
		if strings.HasSuffix(value, "…") { // a digest in full
			value = strings.TrimRight(value, "…") + strings.Repeat("0", 58)
		}
		if err := CheckValue(typ, value); err != nil {
			t.Errorf("the example of %s: %v", typ, err)
		}
	}
	for _, c := range [][2]string{
		{"A", "192.0.2.1.2"}, {"A", "::1"}, {"A", "192.0.2.1 ; more"}, {"A", ""}, {"AAAA", "192.0.2.1"}, {"AAAA", "fe80::1%eth0"},
		{"CNAME", "a..b"}, {"CNAME", "two names"}, {"CNAME", "@"}, {"MX", "mail.example.com"}, {"MX", "10"}, {"SRV", "1 2 x a.test"},
		{"TXT", "none"}, {"TXT", `"open`}, {"TXT", `"` + strings.Repeat("a", 256) + `"`}, {"TXT", `"a" b`}, {"TXT", "\"a\"\n\"b\""},
		{"NS", "$INCLUDE /etc/passwd"}, {"CAA", "0 issue"}, {"SPF", "v=spf1"}, {"XX", "1"}, {"PTR", "a (\n b"}, {"HTTPS", "x"},
	} {
		if err := CheckValue(c[0], c[1]); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s %q: %v", c[0], c[1], err)
		}
	}
	for _, value := range []string{`""`, `"a \"quoted\" ; text"`, `"` + strings.Repeat("a", 255) + `" "` + strings.Repeat("\\101", 255) + `"`} {
		if err := CheckValue("TXT", value); err != nil {
			t.Errorf("TXT %s: %v", value, err)
		}
	}
}

func TestWhatRoute53Refuses(t *testing.T) {
	t.Parallel()
	c := exampleConfig(t)
	record := func(name, typ, value string) Record {
		return Record{Zone: "Z1", Name: name, Type: typ, TTL: 60, Values: []string{value}}
	}
	alias := func(zone, to string) Record {
		return Record{Zone: "Z1", Name: "new.example.com.", Type: "A", Alias: &Alias{Zone: zone, Name: to}}
	}
	twin := record("weighted.example.com.", "A", "192.0.2.1")
	twin.Policy, twin.Set = Weighted, "s11"
	for _, test := range []struct {
		r    Record
		want string
	}{
		{record("www.example.com.", "A", "192.0.2.1"), "Tried to create resource record set [name='www.example.com.', type='A'] but it already exists"},
		{twin, "Tried to create resource record set [name='weighted.example.com.', type='A', set-identifier='s11'] but it already exists"},
		{record("example.com.", "NS", "ns.test"), "Tried to create resource record set [name='example.com.', type='NS'] but it already exists"},
		{record("weighted.example.com.", "A", "192.0.2.1"), "RRSet with DNS name weighted.example.com., type A cannot be created as other RRSets exist with the same name and type."},
		{record("example.com.", "CNAME", "a.test"), "RRSet of type CNAME with DNS name example.com. is not permitted at apex in zone example.com."},
		{record("www.example.com.", "CNAME", "a.test"), "RRSet of type CNAME with DNS name www.example.com. is not permitted as it conflicts with other records with the same DNS name in zone example.com."},
		{record("out.example.com.", "A", "192.0.2.1"), "RRSet of type A with DNS name out.example.com. is not permitted because a conflicting RRSet of type  CNAME with the same DNS name already exists in zone example.com."},
		{record("badexample.com.", "A", "192.0.2.1"), "RRSet with DNS name badexample.com. is not permitted in zone example.com."},
		{alias("Z1", "none.example.com."), "Tried to create an alias that targets none.example.com., type A in zone Z1, but that target was not found"},
		{alias("Z2", "www.example.com."), "Tried to create an alias that targets www.example.com., type A in zone Z2, but the alias target name does not lie within the target zone"},
		{Record{Zone: "Z9", Name: "a.test."}, "No hosted zone found with ID: Z9"},
	} {
		before := len(c.Records)
		if err := c.Put("new", []Record{record("fine.example.com.", "A", "192.0.2.1"), test.r}); err == nil || err.Error() != test.want || len(c.Records) != before {
			t.Errorf("got %v, and %d records of %d; want %s", err, len(c.Records), before, test.want)
		}
	}
	if err := c.DropZone("z1"); !fault.Is(err, fault.Conflict) {
		t.Errorf("drop of a zone with records: %v", err)
	}
	c.Drop("all")
	if err := c.DropZone("z1"); err != nil || len(c.Zones) != 2 {
		t.Errorf("drop of an empty zone: %v, %v", err, c.Zones)
	}
	for _, broken := range []*Config{
		{Zones: []Zone{{ID: "Z1", Name: "a."}}},
		{Records: []Record{{Zone: "Z1", Name: "a."}}},
		{Zones: []Zone{{ID: "Z1", Name: "a.", Servers: []string{"ns."}}}, Records: []Record{{Zone: "Z1", Name: "b.a.", Type: "A", Values: []string{"x"}}}},
	} {
		if broken.Verify() == nil {
			t.Errorf("%+v was taken", broken)
		}
	}
}
