package repository

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"syscall"
)

// refusal is how the specification answers a request that fails.
type refusal struct {
	status  int
	code    string
	message string
}

func (r *refusal) Error() string { return r.message }

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

// unknown is the answer for a repository that nobody has made.
func (s *Store) unknown(name string) *refusal {
	return refuse(http.StatusNotFound, "NAME_UNKNOWN", "The repository with name '%s' does not exist in the registry with id '%s'", name, s.account)
}

func invalidDigest(digest string) *refusal {
	return refuse(http.StatusBadRequest, "DIGEST_INVALID", "%q is not sha256: and 64 hexadecimal digits", digest)
}

func unknownBlob(name, digest string) *refusal {
	return refuse(http.StatusNotFound, "BLOB_UNKNOWN", "repository %s has no blob %s", name, digest)
}

func unknownImage(name, reference string) *refusal {
	return refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "repository %s has no image %s", name, reference)
}

// answer writes a failure, and says whether it is one that the client cannot
// know how to mend.
func answer(w http.ResponseWriter, err error) (ours bool) {
	var r *refusal
	switch {
	case errors.As(err, &r):
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG):
		ours, r = true, refuse(http.StatusInsufficientStorage, "UNKNOWN", "the registry's disk has no room; make some and push again")
	default:
		ours, r = true, refuse(http.StatusInternalServerError, "UNKNOWN", "the registry failed; its log says why")
	}
	text, encodeErr := json.Marshal(map[string]any{"errors": []any{map[string]any{"code": r.code, "message": r.message}}})
	if encodeErr != nil {
		text = nil // texts can be encoded
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(r.status)
	_, _ = w.Write(text) // nobody is there any more
	return ours
}
