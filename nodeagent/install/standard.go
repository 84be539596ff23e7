package install

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// StandardPlugins installs the programs in the folder from, which are plugins of the CNI project, into the folder in which the
// runtime looks for plugins. One that is there already is the node's own and stays, unless the file record says that it was
// installed by an earlier call and it has not been changed since. The names of those that stay are returned. Where there is no
// folder from, nothing is done.
func StandardPlugins(from, dir, record string) (left []string, err error) {
	programs, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("installing standard CNI plugins: %w", err)
	}
	installed := readRecord(record)
	for _, p := range programs {
		content, err := os.ReadFile(filepath.Join(from, p.Name()))
		if err != nil {
			return nil, fmt.Errorf("installing standard CNI plugins: %w", err)
		}
		to, digest := filepath.Join(dir, p.Name()), digestOf(content)
		there, err := os.ReadFile(to)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("installing standard CNI plugins: %w", err)
		case err == nil && !slices.Contains(installed[p.Name()], digestOf(there)):
			left = append(left, p.Name())
			continue
		case err == nil && digestOf(there) == digest:
			continue
		}
		// First the word of it: a program that is here without would count as the node's own for ever. So would the old one, were
		// the word of that gone before it is replaced.
		old := installed[p.Name()]
		installed[p.Name()] = append(slices.Clone(old), digest)
		if err := writeRecord(record, installed); err != nil {
			return nil, err
		}
		if err := replace(to, 0o755, bytes.NewReader(content)); err != nil {
			return nil, fmt.Errorf("installing standard CNI plugins: %w", err)
		}
		installed[p.Name()] = []string{digest}
		if err := writeRecord(record, installed); err != nil {
			return nil, err
		}
	}
	slices.Sort(left)
	return left, nil
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// readRecord reads which programs were installed, with the SHA-256 of their content; more than one while one takes another's
// place. What can't be read was not.
func readRecord(path string) map[string][]string {
	installed := map[string][]string{}
	content, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(content, &installed) != nil {
		return map[string][]string{}
	}
	return installed
}

func writeRecord(path string, installed map[string][]string) error {
	content, err := json.Marshal(installed)
	if err == nil {
		err = replace(path, 0o600, bytes.NewReader(content))
	}
	if err != nil {
		return fmt.Errorf("noting which CNI plugins were installed: %w", err)
	}
	return nil
}
