// Package sigv4 verifies requests that are signed with AWS Signature Version 4
// in their header Authorization, as the clients of AWS sign what they send. It
// knows HTTP and the scheme; it must not know what is asked for, nor where keys
// are kept.
package sigv4

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/span"
)

// Skew is how far a request's time may be from the verifier's.
const Skew = 5 * time.Minute

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeForm   = "20060102T150405Z"
)

// Verifier verifies requests for one service.
type Verifier struct {
	// Service is the service's name in the scope of signatures. Required.
	Service string
	// Secret gives the secret of an access key, "" for a key that is not known.
	// Required.
	Secret func(ctx context.Context, accessKey string) (string, error)
	// Now is the clock, default time.Now.
	Now func() time.Time
}

// Refusal says why a request is not taken, in AWS's words.
type Refusal struct {
	Status  int    // of HTTP
	Code    string // e.g. SignatureDoesNotMatch
	Message string
}

func (r *Refusal) Error() string { return r.Message }

func refuse(status int, code, format string, args ...any) *Refusal {
	return &Refusal{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func incomplete(format string, args ...any) *Refusal {
	return refuse(http.StatusBadRequest, "IncompleteSignature", format, args...)
}

func mismatch(format string, args ...any) *Refusal {
	return refuse(http.StatusForbidden, "SignatureDoesNotMatch", format, args...)
}

// signature is what a request says of how it is signed.
type signature struct {
	accessKey, day, region, service string
	headers                         []string // those that are signed, as they are named
	time                            time.Time
	value                           []byte
}

func (s signature) scope() string {
	return strings.Join([]string{s.day, s.region, s.service, terminator}, "/")
}

// Verify says by which access key a request with this body is signed. It is a
// *Refusal if the request is not to be taken, else what keeps from knowing.
func (v Verifier) Verify(r *http.Request, body []byte) (accessKey string, err error) {
	s, refusal := read(r)
	if refusal == nil {
		refusal = v.judge(s, r)
	}
	if refusal != nil {
		return "", refusal
	}
	secret, err := v.Secret(r.Context(), s.accessKey)
	if err != nil {
		return "", err
	}
	if secret == "" {
		return "", refuse(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid: nobody has the access key %s", s.accessKey)
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if told := r.Header.Get("X-Amz-Content-Sha256"); told != "" && told != hash {
		return "", mismatch("The x-amz-content-sha256 of the request is not that of its body: it is %s", hash)
	}
	if subtle.ConstantTimeCompare(sign(secret, s, canonical(r, s.headers, hash)), s.value) != 1 {
		return "", mismatch("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.")
	}
	now := v.now()
	if age := now.Sub(s.time); age > Skew || age < -Skew {
		return "", refuse(http.StatusBadRequest, "RequestExpired", "Request has expired: it was signed at %s, and it is %s here; at most %v may lie between. Set the clock, or send the request when it is signed",
			s.time.Format(timeForm), now.Format(timeForm), span.Text(Skew))
	}
	return s.accessKey, nil
}

func (v Verifier) now() time.Time {
	if v.Now != nil {
		return v.Now().UTC()
	}
	return time.Now().UTC()
}

// judge says what is wrong with how a request is signed, whoever signed it.
func (v Verifier) judge(s signature, r *http.Request) *Refusal {
	if s.service != v.Service {
		return mismatch("Credential should be scoped to correct service: '%s'; found '%s'", v.Service, s.service)
	}
	if day := s.time.Format("20060102"); s.day != day {
		return mismatch("Date in Credential scope does not match the date of the request: %s and %s", s.day, day)
	}
	must := []string{"host"}
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") {
			must = append(must, name)
		}
	}
	slices.Sort(must)
	for _, name := range must {
		if !slices.Contains(s.headers, name) {
			return mismatch("'%s' must be a 'SignedHeader' in the AWS Authorization", name)
		}
	}
	return nil
}

// read reads the header Authorization.
func read(r *http.Request) (signature, *Refusal) {
	var s signature
	header := r.Header.Get("Authorization")
	if header == "" {
		return s, refuse(http.StatusForbidden, "MissingAuthenticationToken", "Missing Authentication Token: the request has no header Authorization; sign it with Signature Version 4")
	}
	scheme, rest, _ := strings.Cut(header, " ")
	if scheme != algorithm {
		return s, incomplete("Unsupported AWS 'algorithm': '%s'; allowed is %s", scheme, algorithm)
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[name] = value
	}
	for _, name := range []string{"Credential", "SignedHeaders", "Signature"} {
		if parts[name] == "" {
			return s, incomplete("Authorization header requires '%s' parameter", name)
		}
	}
	credential := strings.Split(parts["Credential"], "/")
	if len(credential) != 5 || slices.Contains(credential, "") || credential[4] != terminator {
		return s, incomplete("Credential must be KEY/DATE/REGION/SERVICE/%s; found '%s'", terminator, parts["Credential"])
	}
	s.accessKey, s.day, s.region, s.service = credential[0], credential[1], credential[2], credential[3]
	s.headers = strings.Split(parts["SignedHeaders"], ";")
	var err error
	if s.value, err = hex.DecodeString(parts["Signature"]); err != nil {
		return s, incomplete("Signature must be hexadecimal digits; found '%s'", parts["Signature"])
	}
	switch amz, date := r.Header.Get("X-Amz-Date"), r.Header.Get("Date"); {
	case amz != "":
		s.time, err = time.Parse(timeForm, amz)
	case date != "":
		s.time, err = http.ParseTime(date)
	default:
		return s, incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header")
	}
	if err != nil {
		return s, incomplete("Date must be in ISO-8601 'basic format', such as %s: %v", timeForm, err)
	}
	s.time = s.time.UTC()
	return s, nil
}

// sign gives the signature of a canonical request.
func sign(secret string, s signature, request string) []byte {
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.day, s.region, s.service, terminator} {
		key = mac(key, part)
	}
	sum := sha256.Sum256([]byte(request))
	return mac(key, strings.Join([]string{algorithm, s.time.Format(timeForm), s.scope(), hex.EncodeToString(sum[:])}, "\n"))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text)) // never fails
	return h.Sum(nil)
}

// canonical writes a request in the one form that is signed.
func canonical(r *http.Request, signed []string, bodyHash string) string {
	segments := strings.Split(cmp.Or(r.URL.EscapedPath(), "/"), "/")
	for i, segment := range segments {
		segments[i] = escape(segment)
	}
	var headers strings.Builder
	for _, name := range signed {
		headers.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	return strings.Join([]string{r.Method, strings.Join(segments, "/"), query(r.URL.Query()), headers.String(), strings.Join(signed, ";"), bodyHash}, "\n")
}

// headerValue gives a header as it is signed. Two of them net/http keeps apart.
func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header.Values(name))
	for i, value := range values {
		values[i] = strings.Join(strings.Fields(value), " ")
	}
	return strings.Join(values, ",")
}

func query(values url.Values) string {
	var pairs []string
	for key, all := range values {
		for _, value := range all {
			pairs = append(pairs, escape(key)+"="+escape(value))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape percent-encodes all but what RFC 3986 calls unreserved.
func escape(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}
