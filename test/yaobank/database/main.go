// Command database runs YAO Bank's database, a real etcd beside it in the image, and opens the one account the bank has.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

const endpoint = "http://127.0.0.1:2379"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx)
	stop()
	if err != nil {
		slog.Error("running the database", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	etcd := exec.CommandContext(ctx, "/etcd", "--data-dir=/tmp/etcd",
		"--listen-client-urls=http://0.0.0.0:2379", "--advertise-client-urls=http://database:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--log-level=warn")
	etcd.Stdout, etcd.Stderr = os.Stdout, os.Stderr
	etcd.Cancel = func() error { return etcd.Process.Signal(syscall.SIGTERM) }
	if err := etcd.Start(); err != nil {
		return fmt.Errorf("starting etcd: %w", err)
	}
	if err := openAccount(ctx); err != nil {
		return err
	}
	if err := etcd.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("etcd ended: %w", err)
	}
	return nil
}

// openAccount writes the account, trying again until etcd answers.
func openAccount(ctx context.Context) error {
	account, err := json.Marshal(map[string]string{"owner": "Pallas Otocolobus", "number": "519940", "balance": "2389.45"})
	if err != nil {
		return fmt.Errorf("writing the account: %w", err)
	}
	body, err := json.Marshal(map[string][]byte{"key": []byte("account"), "value": account})
	if err != nil {
		return fmt.Errorf("writing the account: %w", err)
	}
	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()
	for {
		if err = put(ctx, body); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("writing the account: %w", err)
		case <-retry.C:
		}
	}
}

func put(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"/v3/kv/put", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd answered %s", resp.Status)
	}
	return nil
}
