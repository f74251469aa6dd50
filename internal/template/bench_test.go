package template_test

import (
	"fmt"
	"strings"
	"testing"

	"makeitso/internal/template"
)

// BenchmarkRead reads, binds and orders templates of a thousand and of ten
// thousand resources, chained by tens.
func BenchmarkRead(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		var s strings.Builder
		s.WriteString("Parameters: {P: {Type: String, Default: a}}\nResources:\n")
		for i := range n {
			fmt.Fprintf(&s, "  R%d:\n    Type: T::A\n    Properties: {Name: !Sub \"${P}-%d\"", i, i)
			if i%10 != 0 {
				fmt.Fprintf(&s, ", Before: !GetAtt R%d.Arn", i-1)
			}
			s.WriteString("}\n")
		}
		src := []byte(s.String())
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tmpl, diags := template.Parse("template.yaml", src)
				if diags.HasErrors() {
					b.Fatal(diags)
				}
				if _, diags = tmpl.Bind(nil); diags.HasErrors() {
					b.Fatal(diags)
				}
				if _, diags = tmpl.Graph(map[string]bool{}); diags.HasErrors() {
					b.Fatal(diags)
				}
			}
		})
	}
}
