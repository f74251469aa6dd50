package edge

import (
	"hash/fnv"
	"net/http"
	"strconv"
	"time"
)

// mark is what stands for an arm in a cookie. It tells nobody what the arm is
// called, and is the same after a restart.
func mark(service, arm string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(service + "\x00" + arm)) // never fails
	return strconv.FormatUint(h.Sum64(), 36)
}

// chooseSticky chooses for a client that may have chosen before. Only the
// request that draws the client's arm is counted: one throw for each client.
// The mark is that of a new cookie, "" for none.
func (s *service) chooseSticky(r *http.Request, tried []*instance) (c *choice, mark string) {
	if len(tried) == 0 {
		if cookie, err := r.Cookie(s.Sticky.Cookie); err == nil {
			for _, a := range s.arms {
				if a.mark == cookie.Value {
					return &choice{arm: a, instance: a.pick(nil)}, ""
				}
			}
		}
	}
	if c = s.choose(tried); c == nil {
		return nil, ""
	}
	c.fair = len(tried) == 0
	return c, c.arm.mark
}

// cookie writes the cookie that brings a client back to an arm.
func (s *Sticky) cookie(mark string, secure bool) string {
	c := http.Cookie{Name: s.Cookie, Value: mark, Path: "/", HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode}
	if s.TTL > 0 {
		c.MaxAge = int(s.TTL / time.Second)
	}
	return c.String()
}
