package sigv4_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"makeitso/internal/sigv4"
)

const (
	key    = "MISKEY"
	secret = "a secret/with+signs"
	body   = "Action=ListStacks&Version=2010-05-15"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func verifier(now time.Time) sigv4.Verifier {
	return sigv4.Verifier{Service: "cloudformation", Now: func() time.Time { return now },
		Secret: func(_ context.Context, accessKey string) (string, error) {
			switch accessKey {
			case key:
				return secret, nil
			case "BROKEN":
				return "", errors.New("the keys cannot be read")
			}
			return "", nil
		}}
}

// signed gives a request that the SDK's own signer has signed at noon.
func signed(t *testing.T, url string, c aws.Credentials, service string, header http.Header) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, url, strings.NewReader(body))
	r.Header = header.Clone()
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), c, r, hex.EncodeToString(sum[:]), service, "eu-central-1", noon); err != nil {
		t.Fatal(err)
	}
	r.RequestURI = ""
	return r
}

func form() http.Header {
	return http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"}}
}

func TestVerifyTakesWhatTheSDKSigns(t *testing.T) {
	for name, r := range map[string]*http.Request{
		"a form":          signed(t, "http://127.0.0.1:7700/", aws.Credentials{AccessKeyID: key, SecretAccessKey: secret}, "cloudformation", form()),
		"a session":       signed(t, "http://localhost:7700/", aws.Credentials{AccessKeyID: key, SecretAccessKey: secret, SessionToken: "any"}, "cloudformation", form()),
		"path and query":  signed(t, "http://localhost/a%20b/c%2Fd?z=1&a=x%20y&a=%2B&empty=", aws.Credentials{AccessKeyID: key, SecretAccessKey: secret}, "cloudformation", form()),
		"spaces and many": signed(t, "http://localhost/", aws.Credentials{AccessKeyID: key, SecretAccessKey: secret}, "cloudformation", http.Header{"X-Amz-Meta": {" a   b ", "c"}}),
		"no path":         signed(t, "http://localhost", aws.Credentials{AccessKeyID: key, SecretAccessKey: secret}, "cloudformation", form()),
	} {
		if got, err := verifier(noon.Add(4*time.Minute)).Verify(r, []byte(body)); got != key || err != nil {
			t.Errorf("%s: signed by %q: %v", name, got, err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	mine := aws.Credentials{AccessKeyID: key, SecretAccessKey: secret}
	for _, c := range []struct {
		name  string
		by    aws.Credentials
		spoil func(*http.Request)
		body  string
		now   time.Time
		code  string
		says  string
	}{
		{name: "unsigned", spoil: func(r *http.Request) { r.Header.Del("Authorization") }, code: "MissingAuthenticationToken", says: "sign it with Signature Version 4"},
		{name: "another scheme", spoil: func(r *http.Request) { r.Header.Set("Authorization", "Basic YTpi") }, code: "IncompleteSignature", says: "'Basic'; allowed is AWS4-HMAC-SHA256"},
		{name: "half a header", spoil: replace(", SignedHeaders=", ", Signed="), code: "IncompleteSignature", says: "requires 'SignedHeaders'"},
		{name: "half a scope", spoil: replace("/eu-central-1/", "/"), code: "IncompleteSignature", says: "KEY/DATE/REGION/SERVICE/aws4_request"},
		{name: "no digits", spoil: replace("Signature=", "Signature=zz"), code: "IncompleteSignature", says: "hexadecimal"},
		{name: "no date", spoil: func(r *http.Request) { r.Header.Del("X-Amz-Date") }, code: "IncompleteSignature", says: "'X-Amz-Date' or a 'Date' header"},
		{name: "no such date", spoil: func(r *http.Request) { r.Header.Set("X-Amz-Date", "noon") }, code: "IncompleteSignature", says: "ISO-8601"},
		{name: "another day", spoil: replace("/20260304/", "/20260305/"), code: "SignatureDoesNotMatch", says: "20260305 and 20260304"},
		{name: "another service", spoil: replace("/cloudformation/", "/s3/"), code: "SignatureDoesNotMatch", says: "'cloudformation'; found 's3'"},
		{name: "unknown key", by: aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: secret}, code: "InvalidClientTokenId", says: "nobody has the access key AKIA"},
		{name: "another secret", by: aws.Credentials{AccessKeyID: key, SecretAccessKey: "guessed"}, code: "SignatureDoesNotMatch", says: "Check your AWS Secret Access Key"},
		{name: "another body", body: "Action=DeleteStack", code: "SignatureDoesNotMatch", says: "does not match"},
		{name: "another hash", spoil: func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "00") }, code: "SignatureDoesNotMatch", says: "'x-amz-content-sha256' must be a 'SignedHeader'"},
		{name: "another host", spoil: func(r *http.Request) { r.Host = "other" }, code: "SignatureDoesNotMatch", says: "does not match"},
		{name: "host not signed", spoil: replace(";host", ""), code: "SignatureDoesNotMatch", says: "'host' must be"},
		{name: "added header", spoil: func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "t") }, code: "SignatureDoesNotMatch", says: "'x-amz-security-token' must be"},
		{name: "too old", now: noon.Add(5*time.Minute + time.Second), code: "RequestExpired", says: "signed at 20260304T120000Z, and it is 20260304T120501Z here"},
		{name: "from the future", now: noon.Add(-6 * time.Minute), code: "RequestExpired", says: "Set the clock"},
	} {
		if c.by.AccessKeyID == "" {
			c.by = mine
		}
		r := signed(t, "http://localhost:7700/", c.by, "cloudformation", form())
		if c.spoil != nil {
			c.spoil(r)
		}
		if c.body == "" {
			c.body = body
		}
		if c.now.IsZero() {
			c.now = noon
		}
		_, err := verifier(c.now).Verify(r, []byte(c.body))
		var refusal *sigv4.Refusal
		if !errors.As(err, &refusal) || refusal.Code != c.code || !strings.Contains(refusal.Message, c.says) {
			t.Errorf("%s: got %#v (%v), want %s saying %q", c.name, refusal, err, c.code, c.says)
		}
	}
}

func replace(old, new string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
	}
}

// TestVerifyTellsBrokenKeys says that keys that cannot be read are no refusal.
func TestVerifyTellsBrokenKeys(t *testing.T) {
	r := signed(t, "http://localhost/", aws.Credentials{AccessKeyID: "BROKEN", SecretAccessKey: secret}, "cloudformation", form())
	_, err := verifier(noon).Verify(r, []byte(body))
	var refusal *sigv4.Refusal
	if err == nil || errors.As(err, &refusal) {
		t.Errorf("got %v", err)
	}
}
