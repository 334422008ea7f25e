<?php

declare(strict_types=1);

namespace FastifyPushBridge\Redis;

use FastifyPushBridge\Warnings;
use Predis\ClientInterface;
use Predis\Command\CommandInterface;
use Predis\Command\RawCommand;
use Predis\Connection\NodeConnectionInterface;
use Predis\PredisException;
use Predis\Response\ErrorInterface;

/** Predis 1.1, 2 and 3, with one Redis, Sentinel or a Cluster. Raw commands get no prefix. */
final class Predis implements Commands
{
    /** Where the key stands among the arguments: Predis knows it for its own commands only. */
    private const KEYS = ['PUBLISH' => 0, 'SPUBLISH' => 0, 'FCALL' => 2, 'PUBSUB' => 1, 'BLPOP' => 0];

    private readonly object $connection;

    public function __construct(ClientInterface $client)
    {
        $this->connection = $client->getConnection();
        if (!method_exists($this->connection, 'getClusterStrategy')) {
            return;
        }
        $strategy = $this->connection->getClusterStrategy();
        foreach (self::KEYS as $command => $place) {
            $strategy->setCommandHandler($command, static fn (CommandInterface $it) => $it->getArgument($place));
        }
    }

    public function run(array $calls): array
    {
        $commands = array_map(static fn (array $call) => RawCommand::create(...$call['command']), $calls);
        $runOne = fn (CommandInterface $command): mixed => $this->runOne($command);
        return Warnings::kept(fn (): array => $this->connection instanceof NodeConnectionInterface
            ? $this->pipeline($this->connection, $commands)
            : array_map($runOne, $commands));
    }

    private function runOne(CommandInterface $command): mixed
    {
        try {
            return $this->replyOf($this->connection->executeCommand($command));
        } catch (PredisException $problem) {
            $this->connection->disconnect();
            // Predis drops the servers of a Cluster that did not answer, and then has none to ask: make a new client.
            return str_starts_with($problem->getMessage(), 'No connections available')
                ? Failure::ofConnecting($problem)
                : Failure::ofLink($problem);
        }
    }

    /** @param list<CommandInterface> $commands */
    private function pipeline(NodeConnectionInterface $connection, array $commands): array
    {
        try {
            if (!$connection->isConnected()) {
                $connection->connect();
            }
        } catch (PredisException $problem) {
            return array_fill(0, count($commands), Failure::ofConnecting($problem));
        }
        $replies = [];
        try {
            // As many as the buffers of the sockets hold: a server that cannot send its answers reads no more.
            foreach (array_chunk($commands, 50) as $chunk) {
                foreach ($chunk as $command) {
                    $connection->writeRequest($command);
                }
                foreach ($chunk as $command) {
                    $replies[] = $this->replyOf($connection->readResponse($command));
                }
            }
        } catch (PredisException $problem) {
            $connection->disconnect();
            return array_pad($replies, count($commands), Failure::ofLink($problem));
        }
        return $replies;
    }

    private function replyOf(mixed $reply): mixed
    {
        if ($reply instanceof ErrorInterface) {
            return Failure::ofReply($reply->getMessage());
        }
        return is_object($reply) ? (string) $reply : $reply;
    }
}
