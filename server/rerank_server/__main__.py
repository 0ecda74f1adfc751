"""`python -m rerank_server --manifest FILE`: serve one model until SIGTERM."""

from rerank_server.imports import for_good

if __name__ == "__main__":
    with for_good("rerank_server.process"):
        from rerank_server.process import main
    main()
