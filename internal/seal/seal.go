// Package seal keeps what is stored from who can read the disk but not the key:
// a Key seals values, Store seals the records of another store. It must not know
// what the values mean.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"makeitso/internal/fault"
	"makeitso/internal/statefile"
)

// KeySize is how many bytes a key has: AES-256.
const KeySize = 32

// mark begins every sealed value. No JSON begins with it, so that what was
// written before there was a key is known.
const mark = 0x01

// Key seals and opens values with AES-256-GCM. It is safe for concurrent use.
type Key struct{ aead cipher.AEAD }

// newKey makes the key of KeySize bytes.
func newKey(material []byte) (*Key, error) {
	if len(material) != KeySize {
		return nil, fault.New(fault.Invalid, "a key has %d bytes, not %d", KeySize, len(material))
	}
	block, err := aes.NewCipher(material)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Key{aead}, nil
}

// Generate gives the text of a new key: its bytes in Base64.
func Generate() string {
	bytes := make([]byte, KeySize)
	_, _ = rand.Read(bytes) // never fails
	return base64.StdEncoding.EncodeToString(bytes)
}

// Parse reads the text of a key.
func Parse(text string) (*Key, error) {
	bytes, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "a key is no Base64")
	}
	return newKey(bytes)
}

// Fresh gives a new key that is kept nowhere.
func Fresh() *Key {
	k, err := Parse(Generate())
	if err != nil {
		panic(err) // a mistake here
	}
	return k
}

// Load reads the key that a file holds in Base64, and makes both where there is
// none. Only the owner may read the file.
func Load(path string) (*Key, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = create(path)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the key %s cannot be read", path).
			WithHint("give this user access to it, or name another file with --key")
	}
	k, err := Parse(string(text))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the file %s holds no key", path).
			WithHint("a key is %d bytes in Base64, as this makes them: head -c %d /dev/urandom | base64", KeySize, KeySize)
	}
	return k, nil
}

// create makes a new key's file, unless another process is faster, and gives
// what it holds.
func create(path string) ([]byte, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	half, err := os.CreateTemp(filepath.Dir(path), ".key.*") // readable by its owner alone
	if err != nil {
		return nil, err
	}
	defer os.Remove(half.Name())
	_, err = half.WriteString(Generate() + "\n")
	if err == nil {
		err = half.Sync()
	}
	if err = errors.Join(err, half.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(half.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path)
}

// Seal gives plain in a form that only Open with the same key and the same about
// gives back. about says where it belongs, so that it opens nowhere else.
func (k *Key) Seal(plain []byte, about string) []byte {
	return k.aead.Seal([]byte{mark}, nil, plain, []byte(about))
}

// Open gives what was sealed. What was never sealed is given as it is.
func (k *Key) Open(sealed []byte, about string) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != mark {
		return sealed, nil
	}
	plain, err := k.aead.Open(nil, nil, sealed[1:], []byte(about))
	if err != nil {
		return nil, fault.Wrap(fault.Denied, err, "%s was sealed with another key, or was changed", about).
			WithHint("bring back the key that it was sealed with: the file named by --key, or key in the state folder")
	}
	return plain, nil
}

// WriteFile puts v as JSON, sealed, in place of what path holds, as statefile
// does.
func (k *Key) WriteFile(path, about string, v any) error {
	plain, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", about, err)
	}
	return statefile.WriteBytes(path, k.Seal(plain, about))
}

// ReadFile fills v with what WriteFile has put. A file that does not exist is an
// error for which errors.Is(err, fs.ErrNotExist) is true.
func (k *Key) ReadFile(path, about string, v any) error {
	sealed, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	plain, err := k.Open(sealed, about)
	if err == nil {
		err = json.Unmarshal(plain, v)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// String keeps the key out of what is printed.
func (k *Key) String() string { return fmt.Sprintf("seal.Key(%d bit)", 8*KeySize) }
