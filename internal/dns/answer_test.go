package dns

import (
	"fmt"
	"strings"
	"testing"

	wire "github.com/miekg/dns"
)

// example has a zone with one of everything, and a second one.
func exampleConfig(t *testing.T) *Config {
	t.Helper()
	c := &Config{
		Hosts: []Host{{"cdn", "cdn.example.com."}},
		Zones: []Zone{
			{Owner: "z1", ID: "Z1", Name: "example.com.", Servers: []string{"ns-1.test.", "ns-2.test."}},
			{Owner: "z2", ID: "Z2", Name: "sub.example.com.", Servers: []string{"ns-1.test."}},
			{Owner: "z3", ID: "Z3", Name: "sub.example.com.", Servers: []string{"ns-1.test."}, Private: true},
		},
	}
	plain := func(zone, name, typ string, values ...string) Record {
		return Record{Zone: zone, Name: name + ".", Type: typ, TTL: 60, Values: values}
	}
	alias := func(name, typ, zone, to string) Record {
		return Record{Zone: "Z1", Name: name + ".", Type: typ, Alias: &Alias{Zone: zone, Name: to + "."}}
	}
	routed := func(name, set string, policy Policy, change func(*Record)) Record {
		r := plain("Z1", name+".example.com", "A", "192.0.2."+set[1:])
		r.Set, r.Policy = set, policy
		change(&r)
		return r
	}
	weight := func(n int) func(*Record) { return func(r *Record) { r.Weight = n } }
	first := func(check string) func(*Record) { return func(r *Record) { r.First, r.Check = true, check } }
	second := func(check string) func(*Record) { return func(r *Record) { r.Check = check } }
	records := []Record{
		plain("Z1", "www.example.com", "A", "192.0.2.1", "192.0.2.2", "192.0.2.3"),
		plain("Z1", "www.example.com", "TXT", `"a" "b"`),
		plain("Z1", "a.b.c.example.com", "A", "192.0.2.4"),
		plain("Z1", "*.example.com", "A", "192.0.2.5"),
		plain("Z1", "*.w.example.com", "CNAME", "www.example.com"),
		plain("Z1", "out.example.com", "CNAME", "www.example.org"),
		plain("Z1", "chain.example.com", "CNAME", "out.example.com"),
		plain("Z1", "tocdn.example.com", "CNAME", "cdn.example.com"),
		plain("Z1", "dangling.example.com", "CNAME", "none.c.example.com"),
		plain("Z1", "loop.example.com", "CNAME", "loop.example.com"),
		plain("Z1", "far.example.com", "NS", "ns.far.example.com", "ns.example.org"),
		plain("Z1", "ns.far.example.com", "A", "192.0.2.6"),
		plain("Z1", "far.example.com", "DS", "1 8 2 "+strings.Repeat("AB", 32)),
		plain("Z2", "x.sub.example.com", "A", "192.0.2.7"),
		plain("Z3", "y.sub.example.com", "A", "192.0.2.8"),
		alias("example.com", "A", "Z1", "www.example.com"),
		alias("service.example.com", "A", "", "lb.elb.amazonaws.com"),
		alias("service.example.com", "AAAA", "", "lb.elb.amazonaws.com"),
		alias("deep.example.com", "A", "Z3", "y.sub.example.com"),
		routed("weighted", "s11", Weighted, weight(1)), routed("weighted", "s12", Weighted, weight(3)), routed("weighted", "s13", Weighted, weight(0)),
		routed("zero", "s14", Weighted, weight(0)), routed("zero", "s15", Weighted, weight(0)),
		routed("sick", "s16", Weighted, func(r *Record) { r.Weight, r.Check = 9, "sick" }), routed("sick", "s17", Weighted, weight(0)),
		routed("over", "s21", Failover, first("well")), routed("over", "s22", Failover, second("")),
		routed("failed", "s23", Failover, first("sick")), routed("failed", "s24", Failover, second("well")),
		routed("lost", "s25", Failover, first("sick")), routed("lost", "s26", Failover, second("sick")),
		routed("multi", "s31", Multivalue, second("sick")), routed("multi", "s32", Multivalue, second("")), routed("multi", "s33", Multivalue, second("well")),
		routed("near", "s41", Nearest, second("")), routed("near", "s42", Nearest, first("")),
	}
	for i := range 10 {
		records = append(records, routed("many", fmt.Sprintf("s5%d", i), Multivalue, second("")))
	}
	evaluated := routed("evaluated", "s61", Failover, func(r *Record) {
		r.First, r.Values, r.Alias = true, nil, &Alias{Zone: "Z1", Name: "lost.example.com.", Evaluate: true}
	})
	records = append(records, evaluated, routed("evaluated", "s62", Failover, second("")))
	if err := c.Put("all", records); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	c := exampleConfig(t)
	z, err := compile(c)
	if err != nil {
		t.Fatal(err)
	}
	const soa = " / SOA example.com."
	for _, test := range []struct {
		name, typ string
		coin      int
		want      string
	}{
		{"www.example.com", "A", 0, "www.example.com. 192.0.2.1, 192.0.2.2, 192.0.2.3"},
		{"www.example.com", "A", 1, "www.example.com. 192.0.2.2, 192.0.2.3, 192.0.2.1"},
		{"www.example.com", "TXT", 0, `www.example.com. "a" "b"`},
		{"www.example.com", "MX", 0, soa}, // no data
		{"www.example.com", "ANY", 0, `www.example.com. 192.0.2.1, 192.0.2.2, 192.0.2.3, "a" "b"`},
		{"b.c.example.com", "A", 0, soa},              // has only names below it
		{"x.c.example.com", "A", 0, "NXDOMAIN" + soa}, // and so hides the wildcard
		{"any.example.com", "A", 0, "any.example.com. 192.0.2.5"},
		{"any.thing.example.com", "A", 0, "any.thing.example.com. 192.0.2.5"},
		{"any.example.com", "MX", 0, soa},
		{"x.w.example.com", "A", 0, "x.w.example.com. www.example.com., www.example.com. 192.0.2.1, 192.0.2.2, 192.0.2.3"},
		{"x.w.example.com", "CNAME", 0, "x.w.example.com. www.example.com."},
		{"chain.example.com", "A", 0, "chain.example.com. out.example.com., out.example.com. www.example.org."},
		{"tocdn.example.com", "A", 0, "tocdn.example.com. cdn.example.com., cdn.example.com. 127.0.0.1"},
		{"cdn.example.com", "AAAA", 0, ""},
		{"dangling.example.com", "A", 0, "NXDOMAIN dangling.example.com. none.c.example.com." + soa},
		{"loop.example.com", "CNAME", 0, "loop.example.com. loop.example.com."},
		{"x.far.example.com", "A", 0, "foreign / NS ns.far.example.com. / NS ns.example.org. + ns.far.example.com. 192.0.2.6"},
		{"far.example.com", "NS", 0, "foreign / NS ns.far.example.com. / NS ns.example.org. + ns.far.example.com. 192.0.2.6"},
		{"far.example.com", "DS", 0, "far.example.com. 1 8 2 " + strings.Repeat("AB", 32)},
		{"y.sub.example.com", "A", 0, "y.sub.example.com. 192.0.2.8"},
		{"x.sub.example.com", "A", 0, "NXDOMAIN / SOA sub.example.com."}, // the private zone hides it
		{"example.com", "A", 0, "example.com. 192.0.2.1, 192.0.2.2, 192.0.2.3"},
		{"example.com", "NS", 0, "example.com. ns-1.test., ns-2.test."},
		{"example.com", "SOA", 0, "example.com. ns-1.test. hostmaster.ns-1.test. 1 7200 900 1209600 86400"},
		{"service.example.com", "A", 0, "service.example.com. 127.0.0.1"},
		{"service.example.com", "AAAA", 0, soa},
		{"deep.example.com", "A", 0, "deep.example.com. 192.0.2.8"},
		{"example.org", "A", 0, "REFUSED"},
		{"com", "A", 0, "REFUSED"},
		{"weighted.example.com", "A", 0, "weighted.example.com. 192.0.2.11"},
		{"weighted.example.com", "A", 1, "weighted.example.com. 192.0.2.12"},
		{"weighted.example.com", "A", 3, "weighted.example.com. 192.0.2.12"},
		{"zero.example.com", "A", 1, "zero.example.com. 192.0.2.15"},
		{"sick.example.com", "A", 0, "sick.example.com. 192.0.2.17"},
		{"over.example.com", "A", 0, "over.example.com. 192.0.2.21"},
		{"failed.example.com", "A", 0, "failed.example.com. 192.0.2.24"},
		{"lost.example.com", "A", 0, "lost.example.com. 192.0.2.25"},
		{"multi.example.com", "A", 1, "multi.example.com. 192.0.2.33, 192.0.2.32"},
		{"many.example.com", "A", 0, "many.example.com. 192.0.2.50, 192.0.2.51, 192.0.2.52, 192.0.2.53, 192.0.2.54, 192.0.2.55, 192.0.2.56, 192.0.2.57"},
		{"near.example.com", "A", 0, "near.example.com. 192.0.2.42"},
		{"evaluated.example.com", "A", 0, "evaluated.example.com. 192.0.2.62"},
	} {
		a := asking{zones: z, coin: func(n int) int { return min(test.coin, n-1) }, healthy: func(check string) bool { return check != "sick" }}
		if got := show(a.answer(test.name+".", wire.StringToType[test.typ])); got != test.want {
			t.Errorf("%s %s: got  %s\nwant %s", test.name, test.typ, got, test.want)
		}
	}
	endless := asking{zones: z, coin: func(int) int { return 0 }, healthy: func(string) bool { return true }}
	if got := endless.answer("loop.example.com.", wire.TypeA); len(got.answer) != longestChain {
		t.Errorf("a loop gives %d records", len(got.answer))
	}
}

// show writes an answer as "CODE name value, value, … / authority + additional".
func show(a answer) string {
	var parts []string
	if a.code != 0 {
		parts = append(parts, wire.RcodeToString[a.code])
	}
	if a.foreign {
		parts = append(parts, "foreign")
	}
	var values []string
	last := ""
	for _, rr := range a.answer {
		value := strings.TrimPrefix(rr.String(), rr.Header().String())
		if name := rr.Header().Name; name != last {
			value, last = name+" "+value, name
		}
		values = append(values, value)
	}
	if len(values) > 0 {
		parts = append(parts, strings.Join(values, ", "))
	}
	text := strings.Join(parts, " ")
	for _, rr := range a.above {
		what := rr.Header().Name
		if ns, is := rr.(*wire.NS); is {
			what = ns.Ns
		}
		text += " / " + wire.TypeToString[rr.Header().Rrtype] + " " + what
	}
	for _, rr := range a.extra {
		text += " + " + rr.Header().Name + " " + strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	return text
}
