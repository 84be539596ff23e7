// Command customer is YAO Bank's front: a web page that shows the account which the summary service knows.
package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"
)

//go:embed page.html
var pageSource string

// account is the summary service's answer.
type account struct {
	Owner   string `json:"owner"`
	Number  string `json:"number"`
	Balance string `json:"balance"`
}

// view is what the page shows: an account, or why there is none.
type view struct {
	Account account
	Problem string
	Host    string
}

func main() {
	summary := os.Getenv("SUMMARY_URL")
	if summary == "" {
		summary = "http://summary"
	}
	page := template.Must(template.New("page").Parse(pageSource))
	client := &http.Client{Timeout: 4 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		slog.Info("asked for the page", "by", r.RemoteAddr)
		v := view{Host: host}
		account, err := fetch(r, client, summary)
		v.Account = account
		if err != nil {
			slog.Warn("asking the summary service", "error", err)
			v.Problem = err.Error()
			w.WriteHeader(http.StatusBadGateway)
		}
		if err := page.Execute(w, v); err != nil {
			slog.Warn("answering", "error", err)
		}
	})
	server := &http.Server{Addr: ":80", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	if err := server.ListenAndServe(); err != nil {
		slog.Error("serving", "error", err)
		os.Exit(1)
	}
}

func fetch(r *http.Request, client *http.Client, summary string) (account, error) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, summary, http.NoBody)
	if err != nil {
		return account{}, fmt.Errorf("building the question: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return account{}, fmt.Errorf("asking the summary service: %w", err)
	}
	defer resp.Body.Close()
	body := io.LimitReader(resp.Body, 1<<20)
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(body)
		if err != nil {
			return account{}, fmt.Errorf("reading the summary's answer: %w", err)
		}
		return account{}, fmt.Errorf("summary service: %s: %s", resp.Status, text)
	}
	var a account
	if err := json.NewDecoder(body).Decode(&a); err != nil {
		return account{}, fmt.Errorf("reading the summary's answer: %w", err)
	}
	return a, nil
}
