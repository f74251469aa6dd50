package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	wire "github.com/miekg/dns"

	"makeitso/internal/fault"
)

// Types are the types of records that there are.
func Types() []string {
	return strings.Fields("A AAAA CAA CNAME DS HTTPS MX NAPTR NS PTR SOA SPF SRV SSHFP SVCB TLSA TXT")
}

// Name gives a name as all names are kept and compared: complete, in small
// letters. As in Route 53, a byte may be written as three octal digits behind
// a backslash, and "\052" is the star of a wildcard.
func Name(text string) (string, error) {
	wrong := func(why string) (string, error) {
		return "", fault.New(fault.Invalid, "%q is no domain name such as www.example.com: %s", text, why)
	}
	var b strings.Builder
	for rest := text; rest != ""; {
		c := rest[0]
		rest = rest[1:]
		if c <= ' ' || c > '~' {
			return wrong("it has a letter that must be written as \\ and three octal digits")
		}
		if c != '\\' {
			b.WriteByte(c)
			continue
		}
		digits := rest[:min(3, len(rest))]
		n, err := strconv.ParseUint(digits, 8, 8)
		if err != nil || len(digits) < 3 {
			return wrong("behind \\ it has no three octal digits")
		}
		rest = rest[3:]
		fmt.Fprintf(&b, "\\%03d", n) // the wire format's own escapes are decimal
	}
	name := wire.Fqdn(b.String())
	if _, ok := wire.IsDomainName(name); !ok || text == "" || text == "." {
		return wrong("it has labels of 1 to 63 letters, and no more than 255 in all")
	}
	// To the wire and back: so it is spelled as the names of queries are.
	packed := make([]byte, 256)
	end, err := wire.PackDomainName(name, packed, 0, nil, false)
	if err != nil {
		return wrong(err.Error())
	}
	if name, _, err = wire.UnpackDomainName(packed[:end], 0); err != nil {
		return wrong(err.Error())
	}
	return strings.ToLower(name), nil
}

// CheckValue judges a value of a record of that type.
func CheckValue(typ, value string) error {
	_, err := parse(typ, value)
	return err
}

// example shows what a value of a type looks like.
func example(typ string) string {
	return map[string]string{
		"A": "192.0.2.1", "AAAA": "2001:db8::1", "CAA": `0 issue "ca.example.com"`, "CNAME": "www.example.com",
		"DS": "123 8 2 584665…", "HTTPS": `1 . alpn="h2"`, "MX": "10 mail.example.com",
		"NAPTR": `100 50 "u" "sip+E2U" "!^.*$!sip:info@example.com!" .`, "NS": "ns1.example.com", "PTR": "www.example.com",
		"SOA": "ns1.example.com hostmaster.example.com 1 7200 900 1209600 86400", "SPF": `"v=spf1 -all"`,
		"SRV": "1 10 5269 xmpp.example.com", "SSHFP": "1 1 67890…", "SVCB": "1 svc.example.com", "TLSA": "3 1 1 d2abde…",
		"TXT": `"a text" "in parts of at most 255 letters"`,
	}[typ]
}

// parse makes a record, without name and TTL, of the text of a value.
func parse(typ, value string) (wire.RR, error) {
	wrong := func(why string) error {
		if why != "" {
			why = ": " + why
		}
		return fault.New(fault.Invalid, "%q is no value of type %s, such as %s%s", value, typ, example(typ), why)
	}
	if !slices.Contains(Types(), typ) {
		return nil, fault.New(fault.Invalid, "the type %q is none of %s", typ, strings.Join(Types(), ", "))
	}
	if why := plain(typ, value); why != "" {
		return nil, wrong(why)
	}
	address, err := netip.ParseAddr(value)
	if (typ == "A" || typ == "AAAA") && (err != nil || address.Is4() != (typ == "A") || address.Zone() != "") {
		return nil, wrong("")
	}
	rr, err := wire.NewRR(". IN " + typ + " " + value)
	if err != nil {
		return nil, wrong(strings.TrimPrefix(err.Error(), "dns: "))
	}
	if rr == nil || wire.TypeToString[rr.Header().Rrtype] != typ {
		return nil, wrong("")
	}
	return rr, nil
}

// plain finds what a zone file would take for more than a value: comments,
// brackets, further lines. It gives "" if there is nothing of that.
func plain(typ, value string) (why string) {
	quoted, length := false, 0
	text := typ == "TXT" || typ == "SPF"
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case c == '\n' || c == '\r':
			return "it has more than one line"
		case c == '"':
			quoted, length = !quoted, 0
		case quoted:
			length++
			if c == '\\' {
				i += escape(value[i+1:])
			}
			if length > 255 {
				return "a part in quotation marks has more than 255 letters"
			}
		case text && c != ' ' && c != '\t':
			return "it is not enclosed in quotation marks"
		case strings.IndexByte(";()@", c) >= 0 && typ != "SOA":
			return fmt.Sprintf("it has %q outside of quotation marks", c)
		}
	}
	switch {
	case quoted:
		return "a quotation mark is missing"
	case strings.TrimSpace(value) == "":
		return "it is empty"
	}
	return ""
}

// escape gives how many letters behind a backslash belong to it.
func escape(rest string) int {
	if len(rest) >= 3 && strings.Trim(rest[:3], "0123456789") == "" {
		return 3
	}
	return min(1, len(rest))
}
