// Package install puts on the node what others of it need: the CNI plugin's program and the network configuration that
// makes the container runtime call it. Neither is ever removed: pods must be deletable while no agent runs.
package install

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/manul-net/manul/cni/conflist"
)

// Plugin copies the plugin's program to the folder in which the runtime looks for plugins. The runtime may be starting the
// old one at that moment, so the new one takes its place in one step; one that is the same is left alone.
func Plugin(from, dir string) error {
	to := filepath.Join(dir, conflist.PluginName)
	if same, err := sameContent(from, to); err != nil {
		return fmt.Errorf("installing the CNI plugin: %w", err)
	} else if same {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("installing the CNI plugin: %w", err)
	}
	defer in.Close() // only read
	if err := replace(to, 0o755, in); err != nil {
		return fmt.Errorf("installing the CNI plugin: %w", err)
	}
	return nil
}

// Configuration writes the network configuration. With it the kubelet finds the node ready, so it comes last. Host ports
// and sysctls need plugins of the CNI project: without one it is left out, or no pod would start.
func Configuration(dir, plugins string, o conflist.Options) error {
	if _, err := os.Stat(filepath.Join(plugins, "portmap")); errors.Is(err, fs.ErrNotExist) {
		o.WithoutPortMap = true
	}
	if _, err := os.Stat(filepath.Join(plugins, "tuning")); errors.Is(err, fs.ErrNotExist) && len(o.Sysctls) > 0 {
		return errors.New("writing the network configuration: pods are to have sysctls, and there is no plugin tuning in " + plugins)
	}
	content, err := conflist.Render(o)
	if err != nil {
		return err
	}
	to := filepath.Join(dir, conflist.FileName)
	if old, err := os.ReadFile(to); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := replace(to, 0o644, bytes.NewReader(content)); err != nil {
		return fmt.Errorf("writing the network configuration: %w", err)
	}
	return nil
}

// replace writes a file in one step: whoever opens it sees the old or the new content, also after a crash.
func replace(path string, mode fs.FileMode, content io.Reader) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the runtime's own mode for it
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = io.Copy(f, content)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func sameContent(a, b string) (bool, error) {
	x, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer x.Close() // only read
	y, err := os.Open(b)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer y.Close() // only read
	info, err := y.Stat()
	if err != nil || info.Mode().Perm() != 0o755 {
		return false, err
	}
	const chunk = 64 << 10
	p, q := make([]byte, chunk), make([]byte, chunk)
	for {
		n, errX := io.ReadFull(x, p)
		m, errY := io.ReadFull(y, q)
		if n != m || !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		if errX != nil || errY != nil {
			return ended(errX) && ended(errY), nil
		}
	}
}

func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
