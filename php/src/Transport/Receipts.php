<?php

declare(strict_types=1);

namespace FastifyPushBridge\Transport;

use FastifyPushBridge\Clock;
use FastifyPushBridge\Json;
use FastifyPushBridge\PushException;
use FastifyPushBridge\Redis\Commands;

/** What the nodes say they did with a publication. */
final class Receipts
{
    /** Seconds of one BLPOP: shorter than any read timeout that a connection may have. */
    private const WAIT = 0.2;

    public function __construct(private readonly Commands $commands, private readonly RedisOptions $options)
    {
    }

    public static function newToken(): string
    {
        return bin2hex(random_bytes(12));
    }

    /**
     * The answers of `expected` nodes, or those that came by `deadline` of Clock, as one.
     *
     * @return array<string, mixed> delivered, skipped, complete, and perhaps acknowledged, reasons, rejected
     */
    public function collect(string $token, int $expected, float $deadline): array
    {
        $answers = [];
        while (count($answers) < $expected) {
            $left = $deadline - Clock::now();
            if ($left <= 0) {
                break;
            }
            $answer = $this->next($token, min($left, self::WAIT));
            if ($answer !== null) {
                $answers[] = $answer;
            }
        }
        return self::sum($answers) + ['complete' => count($answers) >= $expected];
    }

    /** Null if none came in time, and for what is no answer: any program can write to the list. */
    private function next(string $token, float $seconds): ?array
    {
        $key = $this->options->prefix . "receipt:$token";
        // Redis takes 0 as for ever.
        $command = ['BLPOP', $key, sprintf('%.3F', max($seconds, 0.005))];
        [$reply] = $this->commands->run([['key' => $key, 'command' => $command]]);
        if ($reply instanceof PushException) {
            // It was published: an exception now would look as if it were not.
            usleep(20_000);
            return null;
        }
        $answer = is_array($reply) ? Json::decodeArray((string) ($reply[1] ?? '')) : null;
        $isAnswer = is_string($answer['node'] ?? null) && is_int($answer['delivered'] ?? null);
        return $isAnswer && is_int($answer['skipped'] ?? null) ? $answer : null;
    }

    /** @param list<array<string, mixed>> $answers */
    private static function sum(array $answers): array
    {
        $sum = ['delivered' => 0, 'skipped' => 0];
        $reasons = [];
        $rejected = [];
        foreach ($answers as $answer) {
            $sum['delivered'] += $answer['delivered'];
            $sum['skipped'] += $answer['skipped'];
            if (is_int($answer['acknowledged'] ?? null)) {
                $sum['acknowledged'] = ($sum['acknowledged'] ?? 0) + $answer['acknowledged'];
            }
            foreach ((array) ($answer['reasons'] ?? []) as $reason => $count) {
                $reasons[$reason] = ($reasons[$reason] ?? 0) + (int) $count;
            }
            if (is_array($answer['rejected'] ?? null)) {
                $rejected[] = ['node' => $answer['node']] + $answer['rejected'];
            }
        }
        return $sum + array_filter(['reasons' => $reasons, 'rejected' => $rejected]);
    }
}
