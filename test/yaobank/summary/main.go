// Command summary is YAO Bank's middle tier: it reads an account from the database and hands it on as JSON.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"
)

// Account is what the bank keeps of a customer.
type Account struct {
	Owner   string `json:"owner"`
	Number  string `json:"number"`
	Balance string `json:"balance"`
}

var errNoAccount = errors.New("the database has no account")

func main() {
	database := os.Getenv("DATABASE_URL")
	if database == "" {
		database = "http://database:2379"
	}
	client := &http.Client{Timeout: 3 * time.Second}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		account, err := read(r, client, database)
		if err != nil {
			slog.Warn("reading the account", "error", err)
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(account); err != nil {
			slog.Warn("answering", "error", err)
		}
	})
	server := &http.Server{Addr: ":80", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	if err := server.ListenAndServe(); err != nil {
		slog.Error("serving", "error", err)
		os.Exit(1)
	}
}

// read asks etcd's JSON gateway for the key "account". Keys and values travel in base64, as []byte does in JSON.
func read(r *http.Request, client *http.Client, database string) (Account, error) {
	body, err := json.Marshal(map[string][]byte{"key": []byte("account")})
	if err != nil {
		return Account{}, fmt.Errorf("building the query: %w", err)
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, database+"/v3/kv/range", bytes.NewReader(body))
	if err != nil {
		return Account{}, fmt.Errorf("building the query: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return Account{}, fmt.Errorf("asking the database: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		KVs []struct {
			Value []byte `json:"value"`
		} `json:"kvs"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil {
		return Account{}, fmt.Errorf("reading the database's answer: %w", err)
	}
	if len(answer.KVs) == 0 {
		return Account{}, errNoAccount
	}
	var account Account
	if err := json.Unmarshal(answer.KVs[0].Value, &account); err != nil {
		return Account{}, fmt.Errorf("reading the account: %w", err)
	}
	return account, nil
}
