package repository

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/statefile"
)

// The media types of manifests: of one image, and of lists of them.
var (
	single = []string{"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}
	index  = []string{"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)

// maxManifest is the size of the largest manifest, in bytes.
const maxManifest = 4 << 20

var (
	validDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	validTag    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`) })
)

// hexOf gives the digits of a digest that is valid.
func hexOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// image is the file of a manifest. Its bytes are kept as they came: the digest
// is theirs.
type image struct {
	MediaType string    `json:"mediaType"`
	Manifest  []byte    `json:"manifest"`
	Pushed    time.Time `json:"pushed"`             // the first time
	Untagged  bool      `json:"untagged,omitempty"` // it has never had a tag
}

// descriptor is how a manifest names something.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"` // it lies there, and not here
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// manifest is what a registry must know of a manifest.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        *descriptor       `json:"config,omitempty"`
	Layers        []descriptor      `json:"layers,omitempty"`
	Manifests     []descriptor      `json:"manifests,omitempty"`
	Subject       *descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// parse reads a manifest and checks its form.
func (i image) parse() (manifest, error) {
	invalid := func(format string, args ...any) *refusal {
		return refuse(http.StatusBadRequest, "MANIFEST_INVALID", format, args...)
	}
	var m manifest
	if err := json.Unmarshal(i.Manifest, &m); err != nil {
		return m, invalid("the manifest is not one: %v", err)
	}
	isSingle := slices.Contains(single, i.MediaType)
	switch {
	case !isSingle && !slices.Contains(index, i.MediaType):
		return m, invalid("manifests of type %q are not kept; allowed are %s", i.MediaType, strings.Join(slices.Concat(single, index), ", "))
	case m.MediaType != "" && m.MediaType != i.MediaType:
		return m, invalid("the manifest calls itself %s, and was sent as %s", m.MediaType, i.MediaType)
	case m.SchemaVersion != 2:
		return m, invalid("the manifest has schemaVersion %d, not 2", m.SchemaVersion)
	case isSingle && m.Config == nil:
		return m, invalid("the manifest has no config")
	case isSingle && len(m.Manifests) > 0, !isSingle && (m.Config != nil || len(m.Layers) > 0):
		return m, invalid("the manifest has layers as well as manifests")
	}
	named := slices.Concat(m.blobs(), m.Manifests)
	if m.Subject != nil {
		named = append(named, *m.Subject)
	}
	for _, d := range named {
		if !validDigest.MatchString(d.Digest) {
			return m, invalidDigest(d.Digest)
		}
	}
	return m, nil
}

// blobs gives what the manifest needs of the registry's blobs.
func (m manifest) blobs() []descriptor {
	var all []descriptor
	if m.Config != nil {
		all = append(all, *m.Config)
	}
	for _, layer := range m.Layers {
		if len(layer.URLs) == 0 {
			all = append(all, layer)
		}
	}
	return all
}

func (s *Store) imageFile(name, digest string) string {
	return filepath.Join(s.folder(name), "images", hexOf(digest))
}

// image gives the image of a digest.
func (s *Store) image(name, digest string) (image, error) {
	var i image
	err := statefile.Read(s.imageFile(name, digest), &i)
	if errors.Is(err, fs.ErrNotExist) {
		return i, unknownImage(name, digest)
	}
	return i, err
}

// resolve gives the digest of a tag or a digest.
func (s *Store) resolve(name, reference string) (string, error) {
	if strings.Contains(reference, ":") {
		if !validDigest.MatchString(reference) {
			return "", invalidDigest(reference)
		}
		return reference, nil
	}
	d, _, err := s.read(name)
	if err != nil {
		return "", err
	}
	if digest, tagged := d.Tags[reference]; tagged {
		return digest, nil
	}
	return "", unknownImage(name, reference)
}

// Digest gives the digest of the image with a tag or a digest, fault.NotFound if
// the repository has not got it, or there is none.
func (s *Store) Digest(name, reference string) (string, error) {
	d, found, err := s.read(name)
	if err == nil && !found {
		err = s.unknown(name)
	}
	if err == nil {
		if reference, err = s.resolve(name, reference); err == nil {
			_, err = s.image(name, reference)
		}
	}
	var refused *refusal
	if errors.As(err, &refused) {
		err = fault.New(fault.NotFound, "%s%s", refused.message, instead(d))
	}
	return reference, err
}

// instead says which tags there are.
func instead(d document) string {
	if len(d.Tags) == 0 {
		return ""
	}
	return "; it has " + strings.Join(slices.Sorted(maps.Keys(d.Tags)), ", ")
}

// images gives the manifests of a repository by their digests.
func (s *Store) images(name string) (map[string]manifest, error) {
	found, err := list(filepath.Join(s.folder(name), "images"))
	if err != nil {
		return nil, err
	}
	all := map[string]manifest{}
	for _, e := range found {
		digest := "sha256:" + e.Name()
		if !validDigest.MatchString(digest) {
			continue // half written by a process that was killed
		}
		i, err := s.image(name, digest)
		if err != nil {
			return nil, err
		}
		if all[digest], err = i.parse(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// held gives the digits of the blobs that a repository's images need.
func (s *Store) held(name string) (map[string]bool, error) {
	images, err := s.images(name)
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}
	for _, m := range images {
		for _, b := range m.blobs() {
			held[hexOf(b.Digest)] = true
		}
	}
	return held, nil
}

// put keeps an image, under a tag or the digest that it has, and gives its
// digest and what it says about itself.
func (s *Store) put(name, reference string, i image) (string, manifest, error) {
	digest := digestOf(i.Manifest)
	m, err := i.parse()
	if err != nil {
		return "", m, err
	}
	byDigest := strings.Contains(reference, ":")
	switch {
	case byDigest && reference != digest:
		return "", m, refuse(http.StatusBadRequest, "DIGEST_INVALID", "the manifest has digest %s, and was sent as %s", digest, reference)
	case !byDigest && !validTag().MatchString(reference):
		return "", m, refuse(http.StatusBadRequest, "TAG_INVALID", "%q is not a tag: up to 128 letters, digits, '_', '.' and '-'", reference)
	}
	return digest, m, s.locked(func() error {
		d, found, err := s.read(name)
		if err == nil && !found {
			err = s.unknown(name)
		}
		if err == nil {
			err = s.complete(name, m)
		}
		if err != nil {
			return err
		}
		has := d.Tags[reference]
		if has != "" && has != digest && d.immutable(reference) {
			return refuse(http.StatusBadRequest, "TAG_INVALID", "The image tag '%s' already exists in the '%s' repository and cannot be overwritten because the tag is immutable.", reference, name)
		}
		if err := s.keep(name, digest, i, byDigest); err != nil || byDigest || has == digest {
			return err
		}
		d.Tags[reference] = digest
		if err := statefile.Write(s.file(name), d); err != nil {
			return err
		}
		return s.expire(name, time.Now())
	})
}

// keep writes an image that is pushed, maybe again, down.
func (s *Store) keep(name, digest string, i image, byDigest bool) error {
	was, err := s.image(name, digest)
	var none *refusal
	switch {
	case errors.As(err, &none):
		i.Pushed, i.Untagged = time.Now().UTC(), byDigest
	case err != nil:
		return err
	default:
		i.Pushed, i.Untagged = was.Pushed, was.Untagged && byDigest
	}
	return statefile.Write(s.imageFile(name, digest), i)
}

// complete refuses a manifest of which something is missing here.
func (s *Store) complete(name string, m manifest) error {
	missing := func(what, digest string) error {
		return refuse(http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", "repository %s has not got %s %s of the manifest", name, what, digest)
	}
	for _, b := range m.blobs() {
		has, size, err := s.has(name, b.Digest)
		switch {
		case err != nil:
			return err
		case !has:
			return missing("the blob", b.Digest)
		case size != b.Size:
			return refuse(http.StatusBadRequest, "SIZE_INVALID", "the blob %s has %d bytes, and %d in the manifest", b.Digest, size, b.Size)
		}
	}
	for _, part := range m.Manifests {
		_, err := os.Stat(s.imageFile(name, part.Digest))
		if errors.Is(err, fs.ErrNotExist) {
			return missing("the manifest", part.Digest)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// untag removes a tag, and leaves the image that had it.
func (s *Store) untag(name, tag string) error {
	return s.locked(func() error {
		d, _, err := s.read(name)
		if err != nil {
			return err
		}
		if _, tagged := d.Tags[tag]; !tagged {
			return unknownImage(name, tag)
		}
		delete(d.Tags, tag)
		return statefile.Write(s.file(name), d)
	})
}

// remove removes an image, its tags, and the blobs that nothing else needs.
func (s *Store) remove(name, digest string) error {
	return s.locked(func() error {
		images, err := s.images(name)
		if err != nil {
			return err
		}
		if _, there := images[digest]; !there {
			return unknownImage(name, digest)
		}
		for list, m := range images {
			if slices.ContainsFunc(m.Manifests, func(d descriptor) bool { return d.Digest == digest }) {
				return refuse(http.StatusForbidden, "DENIED", "the image %s is part of the manifest list %s; delete that first", digest, list)
			}
		}
		d, _, err := s.read(name)
		if err != nil {
			return err
		}
		return s.discard(name, d, images, map[string]bool{digest: true})
	})
}

// discard removes images, their tags, and the blobs that nothing else needs.
// The lock is held.
func (s *Store) discard(name string, d document, images map[string]manifest, gone map[string]bool) error {
	if len(gone) == 0 {
		return nil
	}
	// The tags first: none may lead nowhere.
	maps.DeleteFunc(d.Tags, func(_, tagged string) bool { return gone[tagged] })
	if err := statefile.Write(s.file(name), d); err != nil {
		return err
	}
	for digest := range gone {
		if err := os.Remove(s.imageFile(name, digest)); err != nil {
			return err
		}
	}
	held, err := s.held(name)
	if err != nil {
		return err
	}
	for digest := range gone {
		for _, b := range images[digest].blobs() {
			if held[hexOf(b.Digest)] {
				continue
			}
			if err := os.Remove(s.layer(name, b.Digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return s.sweep()
}

// referrers gives the images that say of themselves that they are about the one
// of a digest.
func (s *Store) referrers(name, digest, artifactType string) ([]descriptor, error) {
	images, err := s.images(name)
	if err != nil {
		return nil, err
	}
	found := []descriptor{}
	for _, each := range slices.Sorted(maps.Keys(images)) {
		m := images[each]
		if m.Subject == nil || m.Subject.Digest != digest {
			continue
		}
		i, err := s.image(name, each)
		if err != nil {
			return nil, err
		}
		is := descriptor{MediaType: i.MediaType, Digest: each, Size: int64(len(i.Manifest)), ArtifactType: m.ArtifactType, Annotations: m.Annotations}
		if m.Config != nil {
			is.ArtifactType = cmp.Or(is.ArtifactType, m.Config.MediaType)
		}
		if artifactType == "" || artifactType == is.ArtifactType {
			found = append(found, is)
		}
	}
	return found, nil
}
