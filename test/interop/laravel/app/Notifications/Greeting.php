<?php

declare(strict_types=1);

namespace App\Notifications;

use Illuminate\Notifications\Notification;

final class Greeting extends Notification
{
    public function via(mixed $notifiable): array
    {
        return ['broadcast'];
    }

    public function toArray(mixed $notifiable): array
    {
        return ['text' => "hello {$notifiable->name}"];
    }
}
