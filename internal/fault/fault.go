// Package fault is how makeitso says that an operation failed: a small set of
// codes, a message for the user, a hint that proposes the next step, and the
// cause, each in a field of its own. It knows nothing of HTTP or exit codes;
// those are made from the code in api and cli, one place each.
package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Code is the kind of a failure. Callers decide by code, never by text.
type Code string

const (
	Invalid     Code = "invalid"     // the request or a file is wrong; the same input fails again
	NotFound    Code = "not_found"   // the thing named does not exist
	Conflict    Code = "conflict"    // the thing exists already, or somebody else holds it
	Denied      Code = "denied"      // the caller may not do that
	Unsupported Code = "unsupported" // makeitso or the platform cannot do that (yet)
	Unavailable Code = "unavailable" // something needed is missing or does not answer; trying again may help
	Failed      Code = "failed"      // the thing asked for was tried and failed
	Canceled    Code = "canceled"    // somebody cancelled it, or a newer one took its place
	Internal    Code = "internal"    // a fault of makeitso itself
)

// Error is an operational failure.
type Error struct {
	Code    Code
	Message string // one sentence for the user, lower case, no full stop
	Hint    string // the next step, "" if there is none worth saying
	Cause   error  // what lay beneath, nil if nothing did
}

// Error gives the message and the cause.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// Unwrap gives the cause, so that errors.Is and errors.As see through.
func (e *Error) Unwrap() error { return e.Cause }

// New makes a failure without a cause. The message is formatted with args.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes a failure of the given code around cause. A nil cause is a
// programming mistake: callers check it first.
func Wrap(code Code, cause error, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Cause: cause}
}

// WithHint sets the next step and gives the same failure back.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// CodeOf gives the code of the outermost Error in err's chain, Internal if
// there is none and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

// Is says whether err's code is code.
func Is(err error, code Code) bool { return err != nil && CodeOf(err) == code }

// HintOf gives the outermost hint in err's chain, "" if no part of it has one.
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Cause
	}
	return ""
}

// Text renders err for a person: the message and, indented below, the hint.
func Text(err error) string {
	hint := HintOf(err)
	if hint == "" {
		return err.Error()
	}
	return err.Error() + "\n  " + strings.ReplaceAll(hint, "\n", "\n  ")
}
