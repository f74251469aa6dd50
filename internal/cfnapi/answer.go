package cfnapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"makeitso/internal/diag"
	"makeitso/internal/fault"
	"makeitso/internal/stack"
)

const namespace = "http://cloudformation.amazonaws.com/doc/2010-05-15/"

// list is a list in the service's XML.
type list[T any] struct {
	Members []T `xml:"member"`
}

func listOf[T any](items ...T) list[T] { return list[T]{items} }

// nothing is the result of an action that has an empty one.
type nothing struct{}

// envelope is an answer.
type envelope struct {
	action string
	result any
	id     string
}

// MarshalXML names the elements by the action.
func (v envelope) MarshalXML(e *xml.Encoder, _ xml.StartElement) error {
	start := xml.StartElement{Name: xml.Name{Local: v.action + "Response"}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: namespace}}}
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	if v.result != nil {
		if err := e.EncodeElement(v.result, xml.StartElement{Name: xml.Name{Local: v.action + "Result"}}); err != nil {
			return err
		}
	}
	metadata := struct{ RequestId string }{v.id}
	if err := e.EncodeElement(metadata, xml.StartElement{Name: xml.Name{Local: "ResponseMetadata"}}); err != nil {
		return err
	}
	return e.EncodeToken(start.End())
}

func writeResult(w http.ResponseWriter, action string, result any) error {
	id := newID()
	var b bytes.Buffer
	if err := xml.NewEncoder(&b).Encode(envelope{action, result, id}); err != nil {
		return fmt.Errorf("write the answer to %s: %w", action, err)
	}
	send(w, http.StatusOK, id, b.Bytes())
	return nil
}

func send(w http.ResponseWriter, status int, id string, body []byte) {
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("X-Amzn-RequestId", id)
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has left cannot be told
}

// problem is an error in the service's words.
type problem struct {
	Status        int // of HTTP
	Code, Message string
}

func (p *problem) Error() string { return p.Message }

// invalid is what the service says of most mistakes.
func invalid(format string, args ...any) error {
	return &problem{Status: http.StatusBadRequest, Code: "ValidationError", Message: fmt.Sprintf(format, args...)}
}

// problemOf is the one place where an error becomes one of the service.
func problemOf(err error) *problem {
	var known *problem
	if errors.As(err, &known) {
		return known
	}
	var mistakes diag.List
	p := &problem{Status: http.StatusBadRequest, Code: "ValidationError", Message: messageOf(err)}
	switch {
	case errors.As(err, &mistakes):
	case errors.Is(err, stack.ErrSuspend), errors.Is(err, context.Canceled), fault.Is(err, fault.Unavailable):
		p.Status, p.Code = http.StatusServiceUnavailable, "ServiceUnavailable"
	case fault.Is(err, fault.Internal):
		p.Status, p.Code = http.StatusInternalServerError, "InternalFailure"
	}
	return p
}

// messageOf gives an error's text, and what to do, in one line.
func messageOf(err error) string { return strings.ReplaceAll(fault.Text(err), "\n  ", "; ") }

func writeProblem(w http.ResponseWriter, p *problem) {
	type failure struct{ Type, Code, Message string }
	answer := struct {
		XMLName   xml.Name `xml:"ErrorResponse"`
		Namespace string   `xml:"xmlns,attr"`
		Error     failure
		RequestId string
	}{Namespace: namespace, Error: failure{"Sender", p.Code, p.Message}, RequestId: newID()}
	if p.Status >= http.StatusInternalServerError {
		answer.Error.Type = "Receiver"
	}
	var b bytes.Buffer
	_ = xml.NewEncoder(&b).Encode(answer) // texts alone, into memory
	send(w, p.Status, answer.RequestId, b.Bytes())
}

// newID gives an id in the service's form.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// page gives the part of items, which are in the order of their keys, that
// follows the one a token names, and the token of the next part. Tokens name
// keys and not places, so that what comes and goes meanwhile moves nothing.
func page[T any](items []T, key func(T) string, token string, most int) (part []T, next *string, err error) {
	after, err := keyOf(token)
	if err != nil {
		return nil, nil, err
	}
	for _, item := range items {
		switch {
		case token != "" && key(item) <= after:
		case len(part) == most:
			return part, tokenOf(key(part[most-1])), nil
		default:
			part = append(part, item)
		}
	}
	return part, nil, nil
}

// tokenOf writes a key as a NextToken.
func tokenOf(key string) *string {
	token := base64.RawURLEncoding.EncodeToString([]byte("after:" + key))
	return &token
}

func keyOf(token string) (string, error) {
	if token == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	key, ours := strings.CutPrefix(string(raw), "after:")
	if err != nil || !ours {
		return "", invalid("the NextToken %s is none that was given here; begin without one", token)
	}
	return key, nil
}

// when gives a time for XML, nil for none.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// optional gives a text for XML, nil for none.
func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
